"""TCP links between the programs of an installation: one can go silent, break, or be held once so many bytes have passed."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any

CHUNK = 64 << 10
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Direction(IntEnum):
    """Of bytes, as seen by who has connected."""

    UP = 0
    DOWN = 1


class Link:
    """A way from `port` to the loopback port `target`. `ends`: names of the programs that it is between."""

    def __init__(self, ends: frozenset[str], target: int, loop: asyncio.AbstractEventLoop) -> None:
        self.ends, self.target = ends, target
        self.port = 0
        self.is_reached = threading.Event()
        self._loop = loop
        self._is_cut = False
        self._limit: dict[Direction, int] = {}
        self._passing = asyncio.Event()
        self._passing.set()
        self._connections: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._do(self._set_cut(True))

    def mend(self) -> None:
        """Let new connections through. Those that were open are reset, as by a router that has forgotten them."""
        self._do(self._set_cut(False))

    def hold_after(self, direction: Direction, count: int) -> None:
        """Let `count` more bytes pass that way, then set `is_reached` and nothing more until `release`."""
        self.is_reached.clear()
        self._do(self._set_limit({direction: count}))

    def release(self) -> None:
        self._do(self._set_limit({}))

    def _do(self, change: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(change, self._loop).result()

    async def _set_cut(self, is_cut: bool) -> None:
        if self._is_cut and not is_cut:
            for connection in list(self._connections):
                _reset(connection)
        self._is_cut = is_cut
        self._update()

    async def _set_limit(self, limit: dict[Direction, int]) -> None:
        self._limit = limit
        self._update()

    def _update(self) -> None:
        if self._is_cut or any(left <= 0 for left in self._limit.values()):
            self._passing.clear()
        else:
            self._passing.set()

    def _count(self, direction: Direction, count: int) -> None:
        if direction in self._limit:
            self._limit[direction] -= count
            if self._limit[direction] <= 0:
                self.is_reached.set()
            self._update()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        upstream = None
        try:
            await self._passing.wait()
            far_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
            self._connections.add(upstream)
            await asyncio.gather(self._pump(reader, upstream, Direction.UP), self._pump(far_reader, writer, Direction.DOWN))
            for each in (writer, upstream):
                each.close()
        except OSError:
            for each in filter(None, (writer, upstream)):
                _reset(each)
        finally:
            self._connections -= {writer, upstream}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, direction: Direction) -> None:
        while data := await source.read(CHUNK):
            await self._passing.wait()
            self._count(direction, len(data))
            sink.write(data)
            await sink.drain()
        await self._passing.wait()
        if sink.can_write_eof():
            sink.write_eof()


class Network:
    """Links, served by a thread. Use as `with Network() as network`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self.links: list[Link] = []

    def __enter__(self) -> "Network":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def link(self, *ends: str, target: int) -> Link:
        """Make a link between these programs that leads to a port."""
        link = Link(frozenset(ends), target, self._loop)
        asyncio.run_coroutine_threadsafe(link.open(), self._loop).result()
        self.links.append(link)
        return link

    def find(self, *ends: str) -> Link:
        """Return the link that has all these ends."""
        return next(link for link in self.links if link.ends >= set(ends))


def _reset(connection: asyncio.StreamWriter) -> None:
    """End a connection so that the other side learns that it was broken off."""
    with contextlib.suppress(OSError):
        connection.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.transport.abort()
