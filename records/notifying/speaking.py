"""Speaking to the services: Apprise for people, signed webhooks for programs. Nothing here touches the database."""

import json
import logging
import re
import threading
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from apprise import NotifyType
from django.utils.translation import gettext as _
from standardwebhooks import Webhook

from engine.errors import AddressRefused
from records.models import Event
from records.notifying.addresses import ChannelRefused, require_usable, service_of
from records.notifying.connecting import admitted_connections
from records.notifying.models import Channel
from records.notifying.texts import Message
from storage.secrets import MASK

TIMEOUT_S = (5, 10)
ERROR_LENGTH = 500
TYPES = {
    Event.Level.INFO: NotifyType.INFO,
    Event.Level.SUCCESS: NotifyType.SUCCESS,
    Event.Level.WARNING: NotifyType.WARNING,
    Event.Level.ERROR: NotifyType.FAILURE,
}


class NotTold(Exception):
    """A service did not take a message; the text says why, without secrets."""


def tell_people(channel: Channel, message: Message) -> None:
    """Send a message through Apprise. Raises NotTold."""
    try:
        service = service_of(channel)
    except ChannelRefused as error:
        raise NotTold(str(error)) from error
    shown: str = service.url(privacy=True)  # type: ignore[no-untyped-call]
    with _Heard() as heard:
        try:
            with admitted_connections():
                is_told = service.notify(body=message.body, title=message.title, notify_type=TYPES[Event.Level(message.level)])
        except AddressRefused as error:
            raise NotTold(str(error)) from None
        except Exception as error:
            raise NotTold(_masked(type(error).__name__, channel.address, shown)) from None
    if not is_told:
        said = " ".join(heard.lines) or _("the service did not take the message")
        raise NotTold(_masked(said, channel.address, shown))


def post_webhook(channel: Channel, uid: str, payload: dict[str, Any], now: datetime | None = None) -> None:
    """POST a payload, signed as the Standard Webhooks specification says. Raises NotTold.

    `uid`: the same at each attempt, so that a receiver can tell what it has already.
    """
    try:
        require_usable(channel)
    except ChannelRefused as error:
        raise NotTold(str(error)) from error
    moment = now or datetime.now(UTC)
    body = json.dumps(payload, ensure_ascii=False)
    headers = {
        "content-type": "application/json; charset=utf-8",
        "webhook-id": uid,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(channel.secret).sign(uid, moment, body),
    }
    post(channel.address, body.encode(), headers)


def post(address: str, body: bytes, headers: dict[str, str]) -> None:
    """POST a body to an address of the web, if its host is admitted. Raises NotTold, which names the host alone."""
    host = urlsplit(address).hostname
    headers = {"user-agent": "BackupCenter", **headers}
    try:
        # A redirect could lead anywhere.
        with admitted_connections():
            response = requests.post(address, data=body, headers=headers, timeout=TIMEOUT_S, allow_redirects=False, stream=True)
            response.close()
    except AddressRefused as error:
        raise NotTold(str(error)) from None
    except requests.RequestException as error:
        raise NotTold(f"{host}: {type(error).__name__}") from None
    if not 200 <= response.status_code < 300:
        raise NotTold(_("%(host)s answered %(status)d") % {"host": host, "status": response.status_code})


class _Heard(logging.Handler):
    """What Apprise says in this thread of why it could not send: it raises nothing and returns no reason."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())

    def __enter__(self) -> "_Heard":
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger("apprise").removeHandler(self)


def _masked(text: str, address: str, shown: str) -> str:
    """Return the text without any part of the address that Apprise itself would not show."""
    for part in sorted(re.split(r"[/:@?&=,]+", address), key=len, reverse=True):
        if len(part) > 3 and part not in shown:
            text = text.replace(part, MASK)
    return text[:ERROR_LENGTH]
