"""The server with short intervals and a short memory, for tests that would otherwise wait half a minute."""

from backupcenter.asgi import application
from records import broadcast, stream

stream.KEEP_ALIVE_S = 0.5
stream.ADMISSION_INTERVAL_S = 0.5
broadcast.RECENT = 10

__all__ = ["application"]
