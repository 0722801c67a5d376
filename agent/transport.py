"""The agent's way to the broker: Celery's own for Redis, with nothing but taking messages from one queue.

So the login that the server gives each agent need not open more (`clients.broker`). What of a message may be lost on the way the
server sends again; so nothing is kept in the broker about who has taken what, nothing is put back, and no queue is declared.
"""

from typing import Any
from urllib.parse import unquote, urlsplit

from kombu.transport import redis
from redis.exceptions import AuthenticationError

from agent.login import Login


def transport_of(login: Login) -> type[redis.Transport]:
    """Return the transport of an agent with this login, which is read anew for each connection: it is another after a while."""

    class Channel(redis.Channel):
        # Acknowledging in the broker would need keys that all of its consumers share.
        ack_emulation = False
        do_restore = False
        # Messages of jobs have no priority: of one queue there is one list.
        priority_steps = [0]

        def __init__(self, *arguments: Any, **options: Any) -> None:
            try:
                super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
            except AuthenticationError:
                login.is_refused = True
                raise

        def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
            parts = urlsplit(login.broker)
            place = {"host": parts.hostname or "127.0.0.1", "port": parts.port or redis.DEFAULT_PORT}
            user = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
            # The newer protocol, and saying which library this is, would each take a command more.
            said = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
            return {**said, **place, **user, "protocol": 2, "driver_info": None}

        def _queue_bind(self, *binding: Any) -> None:
            """The server binds queues, as it alone sends messages."""

        def _size(self, queue: str) -> int:
            return 0

    class Transport(redis.Transport, metaclass=_Named):
        pass

    Transport.Channel = Channel
    return Transport


class _Named(type):
    def __str__(cls) -> str:
        """The name in the addresses that Celery logs."""
        return "redis"
