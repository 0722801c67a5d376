"""Listeners of the event stream, many in one event loop, and a process that emits events."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, field
from urllib.parse import quote

from tests.system.processes import Installation

EMITTER = """
import sys, django
django.setup()
from records.events import emit
for line in sys.stdin:
    first, count = map(int, line.split())
    for number in range(first, first + count):
        emit(0x00, 0, f"event {number}", "件" * 1_000)
    print("done", flush=True)
"""


class Emitter:
    """A process that emits events named by rising numbers, as a worker would."""

    def __init__(self, center: Installation) -> None:
        command = [sys.executable, "-c", EMITTER]
        self.popen = center.start("emitter", *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE).popen
        self.emitted = 0

    def emit(self, count: int) -> None:
        """Emit `count` events and return when all are stored."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.write(f"{self.emitted + 1} {count}\n".encode())
        self.popen.stdin.flush()
        assert self.popen.stdout.readline() == b"done\n"
        self.emitted += count

    @property
    def titles(self) -> list[str]:
        return [f"event {number}" for number in range(1, self.emitted + 1)]


@dataclass(slots=True)
class Listener:
    """A client of the stream. `titles`: of the events that came, in order; `names`: of all that came."""

    port: int
    token: str
    last_event_id: str = ""
    status: int = 0
    titles: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    progress: list[dict[str, object]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    may_read: asyncio.Event = field(default_factory=asyncio.Event)
    is_ended: bool = False

    def __post_init__(self) -> None:
        self.may_read.set()

    async def listen(self) -> None:
        """Read the stream until it ends or this is cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        resume = f"Last-Event-ID: {self.last_event_id}\r\n" if self.last_event_id else ""
        # HTTP/1.0: the body comes as it is, not in chunks.
        request = f"GET /api/event?token={quote(self.token)} HTTP/1.0\r\nHost: localhost\r\n{resume}\r\n"
        try:
            writer.write(request.encode())
            self.status = int((await reader.readline()).split()[1])
            while (await reader.readline()).strip():
                pass
            self.changed.set()
            fields: dict[str, str] = {}
            while line := await reader.readline():
                await self.may_read.wait()
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                    continue
                self._receive(fields)
                fields = {}
        finally:
            self.is_ended = True
            self.changed.set()
            writer.close()

    def _receive(self, fields: dict[str, str]) -> None:
        name = fields.get("event", "")
        self.last_event_id = fields.get("id", self.last_event_id)
        if name:
            self.names.append(name)
        if name == "message":
            self.titles.append(json.loads(fields["data"])["title"])
        elif name == "progress":
            self.progress.append(json.loads(fields["data"]))
        self.changed.set()

    async def until(self, what: str, question, timeout_s: float = 30) -> None:
        """Return once `question(self)` is true. Raises TimeoutError, naming `what`."""
        try:
            async with asyncio.timeout(timeout_s):
                while not question(self):
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError as error:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}: {len(self.titles)} events came") from error

    async def opened(self) -> None:
        await self.until("the stream to open", lambda listener: "stream-open" in listener.names, 120)

    async def heard(self, count: int, timeout_s: float = 30) -> None:
        await self.until(f"{count} events", lambda listener: len(listener.titles) >= count, timeout_s)


def make_token(center: Installation, username: str = "listener") -> str:
    """Create an account and return a token of it."""
    return center.run_python(
        "from accounts.models import User; from knox.models import AuthToken;"
        f"user, _ = User.objects.get_or_create(username={username!r});"
        "print(AuthToken.objects.create(user)[1])"
    ).split()[-1]
