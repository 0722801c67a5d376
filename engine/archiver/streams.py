"""Streams: files of a snapshot whose content no file has, but a command writes it, or it comes on a descriptor.

A command that fails would leave a file that looks whole and is not. So a stream that does not end well ends the backup, without a
snapshot.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import Cancelled, EngineError
from engine.metadata import owner_names
from engine.node import Node, go_mode
from engine.program import Program, ending_text

FILE_MODE = 0o100600
DIRECTORY_MODE = 0o040755
# How long a stream that is silent is waited for before it is looked whether anybody still wants it.
_LOOK_EVERY_S = 0.2

Fill = Callable[[memoryview], int]


class StreamFailed(EngineError):
    """A stream did not end well, so that nobody knows whether what came is all."""


class InvalidStream(EngineError):
    """There can be no file with a stream's content at its path."""


@dataclass(frozen=True, slots=True)
class Stream:
    """What becomes the file `path` (absolute, as the snapshot has it): the output of `command`, else what `descriptor` gives.

    `environment`: the command's whole, None for ours. `label` is what errors call the command; its arguments may say too much.
    `on_ended` is told how the command ended (`Program.poll`), after how many seconds, and the end of what it wrote for people.
    """

    path: bytes
    command: tuple[str, ...] = ()
    descriptor: int | None = None
    timeout_s: float | None = None
    environment: Mapping[str, str] | None = None
    label: str = ""
    on_ended: Callable[[int, float, str], None] | None = None

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    def read(self, consume: Callable[[Fill], tuple[tuple[bytes, ...], int]], stopped: Callable[[], bool]) -> Node:
        """Let `consume` read all of it, and return its node. Raises StreamFailed, Cancelled once it has `stopped`."""
        begun_ns = time.time_ns()
        content, size = self._read_command(consume, stopped) if self.command else self._read_descriptor(consume, stopped)
        return _own_node(self.name, "file", FILE_MODE, begun_ns, size, content)

    def _read_command(
        self, consume: Callable[[Fill], tuple[tuple[bytes, ...], int]], stopped: Callable[[], bool]
    ) -> tuple[tuple[bytes, ...], int]:
        started = time.monotonic()
        program = Program(self.command, timeout_s=self.timeout_s, environment=self.environment, pipes=True)

        def require_wanted() -> None:
            if stopped():
                raise Cancelled
            if program.is_overdue:
                raise StreamFailed(f"{self._named} was ended, since it took longer than {self.timeout_s:g} s")

        def fill(view: memoryview) -> int:
            while True:
                require_wanted()
                if (count := program.read_into(view, _LOOK_EVERY_S)) is not None:
                    return count

        try:
            read = consume(fill)
            while (status := program.wait(_LOOK_EVERY_S)) is None:
                require_wanted()
        finally:
            ended = program.end()
            if self.on_ended is not None:
                self.on_ended(ended, time.monotonic() - started, program.output)
        if status:
            raise StreamFailed(f"{self._named} {ending_text(status, program.output)}")
        return read

    def _read_descriptor(
        self, consume: Callable[[Fill], tuple[tuple[bytes, ...], int]], stopped: Callable[[], bool]
    ) -> tuple[tuple[bytes, ...], int]:
        assert self.descriptor is not None
        source = self.descriptor

        def fill(view: memoryview) -> int:
            while not stopped():
                if select.select([source], [], [], _LOOK_EVERY_S)[0]:
                    return os.readv(source, [view])
            raise Cancelled

        return consume(fill)

    @property
    def _named(self) -> str:
        return f"the command {self.label or self.command[0]} for {os.fsdecode(self.path)}"


def made_up_directory(name: bytes, now_ns: int) -> Node:
    """A directory above a stream that the file system does not have."""
    return _own_node(name, "dir", DIRECTORY_MODE, now_ns)


def _own_node(name: bytes, kind: str, mode: int, time_ns: int, size: int = 0, content: tuple[bytes, ...] | None = None) -> Node:
    uid, gid = os.getuid(), os.getgid()
    user, group = owner_names(uid, gid)
    links = 1 if kind == "file" else 0
    return Node(
        name, kind, go_mode(mode), time_ns, time_ns, time_ns, uid, gid, user, group, size=size, links=links, content=content
    )
