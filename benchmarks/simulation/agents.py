"""Agents that only talk: `python -m benchmarks.simulation.agents` with the server's addresses; ends when its input does.

Each agent listens to its own queue, works at most two jobs at once, claims over HTTP, reports progress for as long as the job is
said to last and finishes it. It beats every 15 seconds. What was seen is printed as JSON at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from agent.course import Course
from benchmarks.simulation.figures import quantiles
from benchmarks.simulation.population import token_of
from benchmarks.simulation.protocol import Queue, post

JOBS_AT_ONCE = 2
HEARTBEAT_EVERY_S = 15.0


@dataclass(slots=True)
class Seen:
    """`seconds`: how long requests took, by what they were for; `statuses`: how they were answered."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    most_running: int = 0
    running: int = 0

    def summary(self) -> dict[str, Any]:
        latencies = {step: quantiles(seconds) for step, seconds in self.seconds.items()}
        return {"latency_ms": latencies, "statuses": dict(self.statuses), "most_running": self.most_running}


class Agent:
    """One host's."""

    def __init__(self, number: int, port: int, redis_url: str, work_s: float, report_every_s: float, seen: Seen) -> None:
        self._port, self._token, self._seen = port, token_of(number), seen
        self._queue = Queue(redis_url, f"client.{number}")
        self._work_s, self._report_every_s = work_s, report_every_s
        self._jobs: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        await self._queue.connect()
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                while len(self._jobs) >= JOBS_AT_ONCE:
                    await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
                message = await self._queue.take()
                await self._queue.acknowledge(message)
                task = asyncio.create_task(self._work(message.job, message.attempt))
                self._jobs.add(task)
                task.add_done_callback(self._jobs.discard)
        finally:
            beating.cancel()
            self._queue.close()

    async def _beat(self) -> None:
        await asyncio.sleep(random.random() * HEARTBEAT_EVERY_S)
        while True:
            body = {"version": "1", "os": "Debian", "running": [], "load": 0.5}
            await self._post("heartbeat", "heartbeat", body)
            await asyncio.sleep(HEARTBEAT_EVERY_S)

    async def _work(self, job: str, attempt: int) -> None:
        nonce = random.randbytes(16).hex()
        status, _specification = await self._post("claim", f"job/{job}/claim", {"attempt": attempt, "nonce": nonce})
        if status != 200:
            return
        self._seen.running += 1
        self._seen.most_running = max(self._seen.most_running, self._seen.running)
        try:
            await self._report(job, attempt, time.monotonic() + self._work_s * (0.5 + random.random()))
            result = {"snapshot_id": random.randbytes(32).hex(), "files_total": 1000, "bytes_total": 10**9}
            await self._post("finish", f"job/{job}/finish", {"attempt": attempt, "outcome": "success", "result": result})
        finally:
            self._seen.running -= 1

    async def _report(self, job: str, attempt: int, end: float) -> None:
        pause, files, course = self._report_every_s * random.random(), 0, Course()
        while time.monotonic() + pause < end:
            await asyncio.sleep(pause)
            files += 100
            progress = {"phase": "backup", "files_done": files, "files_total": 10**5, "bytes_done": files * 10**4,
                        "bytes_total": 10**9, "current": f"/home/user/documents/{files}.odt"}  # fmt: skip
            body: dict[str, Any] = {"attempt": attempt, "progress": progress}
            course.follow(progress)
            if course.is_worth_telling:
                body["course"] = course.tell()
                course.note_told(body["course"])
            _status, answer = await self._post("progress", f"job/{job}/progress", body)
            pause = max(self._report_every_s, (answer or {}).get("report_every_s", 0))
        await asyncio.sleep(max(0.0, end - time.monotonic()))

    async def _post(self, step: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        began = time.monotonic()
        try:
            status, answer = await post(self._port, path, self._token, body)
        except OSError as error:
            self._seen.statuses[f"{step} {type(error).__name__}"] += 1
            return 0, None
        self._seen.seconds[step].append(time.monotonic() - began)
        self._seen.statuses[f"{step} {status}"] += 1
        return status, answer


async def simulate(arguments: argparse.Namespace) -> Seen:
    seen = Seen()
    agents = [
        Agent(number, arguments.port, arguments.redis, arguments.work_s, arguments.report_every_s, seen)
        for number in range(1, arguments.count + 1)
    ]
    tasks = [asyncio.create_task(agent.live()) for agent in agents]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if not isinstance(outcome, asyncio.CancelledError):
            seen.statuses[f"agent ended: {outcome!r}"] += 1
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, metavar="URL")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--work-s", type=float, required=True, help="how long a job lasts on average")
    parser.add_argument("--report-every-s", type=float, default=2.0, help="pause between reports")
    print(json.dumps(asyncio.run(simulate(parser.parse_args())).summary()), flush=True)


if __name__ == "__main__":
    main()
