"""Sessions of the console, kept so that who reads the database can neither use nor read them.

A session's key exists in the browser's cookie only: its row has the key's digest for its own key, and its data are encrypted under
the key. Beside them stand whose it is and where it began, for the list from which a session is ended.
"""

import base64
import hashlib
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.http import HttpRequest
from django.utils import timezone

from accounts.throttling import client_address

ORIGIN = "_origin"


class SessionStore(DatabaseStore):
    """Django's sessions in the database, under the digests of their keys."""

    @classmethod
    def get_model_class(cls) -> Any:
        from accounts.models import Session

        return Session

    def encode(self, session_dict: dict[str, Any]) -> str:
        own: Any = self
        return _cipher(own._get_or_create_session_key()).encrypt(super().encode(session_dict).encode()).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        try:
            return super().decode(_cipher(self.session_key or "").decrypt(session_data).decode())
        except InvalidToken:
            return {}

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row: Any = super().create_model_instance(data)
        row.session_key = digest(row.session_key)
        row.user_id = data.get(SESSION_KEY)
        origin = data.get(ORIGIN, {})
        row.address, row.browser, row.began_at = origin.get("address"), origin.get("browser", ""), origin.get("time")
        return row

    def exists(self, session_key: str) -> bool:
        return super().exists(digest(session_key))

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            super().delete(digest(key))

    def _get_session_from_db(self) -> Any:
        found = self._own_row().first()
        if found is None:
            self._session_key = None
        return found

    def _own_row(self) -> Any:
        return self.get_model_class().objects.live().filter(session_key=digest(self.session_key or ""))

    async def acreate_model_instance(self, data: dict[str, Any]) -> Any:
        return self.create_model_instance(data)

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(digest(session_key))

    async def adelete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            await super().adelete(digest(key))

    async def _aget_session_from_db(self) -> Any:
        found = await self._own_row().afirst()
        if found is None:
            self._session_key = None
        return found


def digest(session_key: str) -> str:
    """Return what stands for a session's key in the database: 40 hexadecimal digits, as Django's column holds."""
    return hashlib.sha256(b"key:" + session_key.encode()).hexdigest()[:40]


def _cipher(session_key: str) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"data:" + session_key.encode()).digest()))


def note_origin(sender: Any, request: Any = None, **_more: Any) -> None:
    """Remember where a session began. Logging in to the API begins none."""
    if isinstance(request, HttpRequest):
        origin = {"address": client_address(request), "browser": request.META.get("HTTP_USER_AGENT", "")[:200]}
        request.session[ORIGIN] = {**origin, "time": timezone.now().isoformat()}


def watch() -> None:
    user_logged_in.connect(note_origin, dispatch_uid="sessions")
