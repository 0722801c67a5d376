"""Listeners of `/api/event` on one web process: how soon they are let in, how soon all hear an event, what they cost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.simulation.center import Center
from benchmarks.simulation.figures import quantiles
from tests.system.listening import Emitter, Listener, make_token

EVENTS = 30


def measure_listeners(center: Center, count: int) -> dict[str, Any]:
    """Open `count` streams, emit events one by one and a hundred at once; the time of each until all listeners have it."""
    emitter, token = Emitter(center), make_token(center)
    return asyncio.run(_listen(center, emitter, [Listener(center.port, token) for _ in range(count)]))


async def _listen(center: Center, emitter: Emitter, listeners: list[Listener]) -> dict[str, Any]:
    began = time.monotonic()
    tasks = [asyncio.create_task(listener.listen()) for listener in listeners]
    await asyncio.gather(*(listener.opened() for listener in listeners))
    opened_s = time.monotonic() - began

    async def hear(events: int) -> float:
        began = time.monotonic()
        await asyncio.to_thread(emitter.emit, events)
        await asyncio.gather(*(listener.heard(emitter.emitted, 120) for listener in listeners))
        return time.monotonic() - began

    with center.measured() as usage:
        seconds = [await hear(1) for _ in range(EVENTS)]
    burst_s = await hear(100)
    web = next(process for process in center.processes if process.name == "web")
    lost = sum(emitter.emitted - len(set(listener.titles)) for listener in listeners)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "listeners": len(listeners),
        "opened_s": round(opened_s, 2),
        "heard_by_all_ms": quantiles(seconds),
        "hundred_heard_by_all_s": round(burst_s, 2),
        "lost": lost,
        "web_ms_per_event": round(1000 * usage.cpu_s["web"] / EVENTS, 1),
        "web_threads": web.threads(),
        "web_resident_mb": round(web.resident_bytes() / 1e6),
    }
