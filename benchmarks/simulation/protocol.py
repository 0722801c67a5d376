"""What a simulated agent says, as cheaply as it can be said: HTTP to the server, and to Redis the words that kombu says.

kombu's transport asks its queue, by four priorities, with `BRPOP` for a second at a time, keeps what it took among the
unacknowledged and takes it out again once the task begins (kombu 5.7, `kombu/transport/redis.py`).
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")


async def post(port: int, path: str, token: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Send a request on a connection of its own, as agents do; return status and answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        content = json.dumps(body).encode()
        head = (
            f"POST /api/agent/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nAuthorization: Agent {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        answer = await reader.read()
    finally:
        writer.close()
    head, _, content = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError("no answer")
    return int(head.split(b" ", 2)[1]), json.loads(content) if content else None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a queue. `tag`: what it is acknowledged by."""

    tag: str
    job: str
    attempt: int


class Queue:
    """A client's queue, on a connection of its own."""

    def __init__(self, redis_url: str, name: str) -> None:
        self._url, self._name = redis_url, name
        self._brpop = _command("BRPOP", *(name + priority for priority in PRIORITIES), "1")

    async def connect(self) -> None:
        parts = urlsplit(self._url)
        self._reader, self._writer = await asyncio.open_connection(parts.hostname, parts.port)
        credentials = [unquote(text) for text in (parts.username, parts.password) if text]
        self._writer.write(_command("AUTH", *credentials))
        await self._reader.readline()

    async def take(self) -> Message:
        """Wait for the next message, and note it as unacknowledged."""
        while True:
            self._writer.write(self._brpop)
            if await self._reader.readline() == b"*-1\r\n":
                continue
            await self._bulk()
            raw = await self._bulk()
            message = json.loads(raw)
            tag = message["properties"]["delivery_tag"]
            self._writer.write(
                _command("MULTI")
                + _command("ZADD", "unacked_index", "0", tag)
                + _command("HSET", "unacked", tag, json.dumps([message, "", self._name]))
                + _command("EXEC")
            )
            await self._skip(4, counted=2)
            said = json.loads(base64.b64decode(message["body"]))[0][0]
            return Message(tag, said["job"], said["attempt"])

    async def acknowledge(self, message: Message) -> None:
        self._writer.write(
            _command("MULTI")
            + _command("ZREM", "unacked_index", message.tag)
            + _command("HDEL", "unacked", message.tag)
            + _command("EXEC")
        )
        await self._skip(4, counted=2)

    def close(self) -> None:
        self._writer.close()

    async def _bulk(self) -> bytes:
        length = int((await self._reader.readline())[1:])
        return (await self._reader.readexactly(length + 2))[:-2]

    async def _skip(self, answers: int, *, counted: int) -> None:
        """Read the answers to a transaction: so many lines, and its `counted` results."""
        for _ in range(answers + counted):
            await self._reader.readline()


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
