"""A thousand listeners, a long outage of Redis, a burst: what one web process on PostgreSQL bears.

Prints its figures; `pytest --soak -s` shows them.
"""

import asyncio
import time

import pytest

from tests.services.postgres import postgres_server
from tests.system.listening import Emitter, Listener, make_token
from tests.system.processes import Process, installation
from tests.system.test_event_stream import connections, end, listening

LISTENERS = 1_000
OUTAGE_S = 30
BURST = 9_000


def lost_and_doubled(listeners: list[Listener], emitter: Emitter, since: int = 0) -> tuple[int, int]:
    expected = set(emitter.titles[since:])
    lost = sum(len(expected - set(listener.titles)) for listener in listeners)
    doubled = sum(len(listener.titles) - len(set(listener.titles)) for listener in listeners)
    return lost, doubled


class Load:
    """The most that was seen of a web process."""

    def __init__(self, web: Process, postgres_url: str) -> None:
        self.web, self.postgres_url = web, postgres_url
        self.threads = self.connections = self.resident_bytes = 0

    def look(self) -> None:
        self.threads = max(self.threads, self.web.threads())
        self.connections = max(self.connections, connections(self.postgres_url, self.web.name))
        self.resident_bytes = max(self.resident_bytes, self.web.resident_bytes())

    async def watch(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(0.5)

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.connections} connections, {self.resident_bytes / 1e6:.0f} MB"


@pytest.mark.soak
@pytest.mark.postgres
def test_a_thousand_listeners_survive_a_long_outage_on_few_threads_and_connections():
    with postgres_server() as url, installation(url) as center:
        redis, web = center.redis(), center.web()
        emitter, load = Emitter(center), Load(web, url)

        async def scenario() -> None:
            watching = asyncio.create_task(load.watch())
            token = await asyncio.to_thread(make_token, center)
            listeners = [Listener(center.port, token) for _ in range(LISTENERS)]
            began = time.monotonic()
            tasks = await listening(*listeners)
            print(f"\n{LISTENERS} listeners open after {time.monotonic() - began:.1f} s: {load}")

            async def emit_and_hear(count: int) -> float:
                began = time.monotonic()
                await asyncio.to_thread(emitter.emit, count)
                await asyncio.gather(*(listener.heard(emitter.emitted, 120) for listener in listeners))
                return time.monotonic() - began

            print(f"100 events heard by all after {await emit_and_hear(100):.1f} s")
            redis.kill()
            outage = time.monotonic() + OUTAGE_S
            while time.monotonic() < outage:
                await asyncio.to_thread(emitter.emit, 5)
                await asyncio.sleep(0.5)
            during = emitter.emitted - 100
            last = await emit_and_hear(1)
            print(f"{during + 1} events during {OUTAGE_S} s without Redis, the last heard by all after {last:.1f} s")
            center.redis()
            print(f"100 events after it heard by all after {await emit_and_hear(100):.1f} s")
            watching.cancel()
            lost, doubled = lost_and_doubled(listeners, emitter)
            print(f"{emitter.emitted} events, {lost} lost, {doubled} doubled; at most {load}")
            await end(tasks)
            assert (lost, doubled) == (0, 0)
            assert load.connections <= 5
            assert load.threads <= 10

        asyncio.run(scenario())


@pytest.mark.soak
@pytest.mark.postgres
def test_a_burst_is_heard_once_by_the_quick_and_by_those_who_come_back():
    with postgres_server() as url, installation(url) as center:
        center.redis()
        web = center.web()
        emitter, load = Emitter(center), Load(web, url)

        async def scenario() -> None:
            watching = asyncio.create_task(load.watch())
            token = await asyncio.to_thread(make_token, center)
            listeners = [Listener(center.port, token) for _ in range(100)]
            tasks = await listening(*listeners)
            began = time.monotonic()
            emitting = asyncio.create_task(asyncio.to_thread(emitter.emit, BURST))
            # Half of them lose their connection in the middle of it.
            await asyncio.gather(*(listener.heard(BURST // 3, 300) for listener in listeners))
            await end(tasks[::2])
            again = [
                Listener(center.port, token, last_event_id=listener.last_event_id, titles=listener.titles)
                for listener in listeners[::2]
            ]
            stayed = listeners[1::2]
            tasks = tasks[1::2] + await listening(*again)
            await emitting
            emitted = time.monotonic() - began
            await asyncio.gather(*(listener.heard(BURST, 300) for listener in stayed + again))
            heard = time.monotonic() - began
            watching.cancel()
            lost, doubled = lost_and_doubled(stayed + again, emitter)
            print(f"\n{BURST} events in {emitted:.1f} s, heard by 100 after {heard:.1f} s: {lost} lost, {doubled} doubled")
            print(f"at most {load}")
            await end(tasks)
            assert (lost, doubled) == (0, 0)
            assert "stream-reset" not in {name for listener in again for name in listener.names}

        asyncio.run(scenario())
