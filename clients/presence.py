"""Who is there: agents say so with each heartbeat, and a client that falls silent is reported once.

Other rooms listen to the signals; this one knows nothing of them.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from clients.models import Client

# Sent with `client` and `online` when a client that was there falls silent, and when it is back.
presence_changed = Signal()
# Sent with `client` when its agent has been started.
agent_started = Signal()


def heard_since() -> datetime:
    """Return since when a client must have been heard of to be online."""
    return timezone.now() - timedelta(seconds=settings.CLIENT_OFFLINE_S)


def beat_interval() -> float:
    """Return how many seconds an agent is to wait between heartbeats: three may be lost before its client counts as offline."""
    return settings.CLIENT_OFFLINE_S / 4


def touch(client_id: int, **said: Any) -> None:
    """Note that the client's agent was heard of just now, and what it said of itself; None stands for nothing."""
    heard = {"last_seen": timezone.now(), **{name: value for name, value in said.items() if value is not None}}
    rows = Client.objects.filter(pk=client_id)
    if rows.filter(is_offline_reported=False).update(**heard):
        return
    # In one transaction with what tells people: their order is that of the changes.
    with transaction.atomic():
        is_back = rows.filter(is_offline_reported=True).update(is_offline_reported=False)
        # Another report of its agent may have come first.
        if rows.update(**heard) and is_back:
            presence_changed.send_robust(Client, client=rows.get(), online=True)


def receive_heartbeat(client_id: int, *, started: bool = False, **said: Any) -> None:
    """Note a heartbeat and what it said of the client's fields. `started`: it is the first of an agent that was just started."""
    touch(client_id, **said)
    if started:
        agent_started.send_robust(Client, client=Client.objects.get(pk=client_id))


def note_checks(client: Client, checks: list[dict[str, str]]) -> None:
    """Keep what the client's agent has checked, in place of what it found before."""
    Client.objects.filter(pk=client.pk).update(checks=checks, checked_at=timezone.now())


def watch_presence() -> int:
    """Report clients that have fallen silent since the last look; return how many."""
    silent_since = heard_since()
    # Who was heard of in the future was so before the clock was put back.
    Client.objects.filter(last_seen__gt=timezone.now()).update(last_seen=timezone.now())
    reported = 0
    for client in Client.objects.filter(last_seen__lt=silent_since, is_offline_reported=False):
        # Another watcher, or a heartbeat, may have come first.
        silent = Client.objects.filter(pk=client.pk, last_seen__lt=silent_since, is_offline_reported=False)
        with transaction.atomic():
            if silent.update(is_offline_reported=True):
                presence_changed.send_robust(Client, client=client, online=False)
                reported += 1
    return reported
