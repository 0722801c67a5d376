"""The worker processes of a backup: started, spoken to, and watched by the archiver."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

from engine.archiver.messages import FromArchiver, FromWorker, Stop
from engine.archiver.worker import WorkerSettings, run_worker
from engine.errors import EngineError
from engine.lifeline import await_ended_threads

# Jobs on the way keep a worker busy while its results travel.
JOBS_ON_THE_WAY = 3
# How long workers may take to end what they are storing.
ENDING_S = 1.0


class WorkerDied(EngineError):
    """A worker process ended without having been asked to: killed, or out of memory."""


class WorkerProcess:
    """A forked worker, as the archiver sees it."""

    def __init__(self, process: ForkProcess, connection: Connection) -> None:
        # Messages with jobs that are not done.
        self._process = process
        self.connection = connection
        self.jobs = 0

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def is_busy(self) -> bool:
        return self.jobs >= JOBS_ON_THE_WAY

    def send(self, message: FromArchiver) -> None:
        """Raises WorkerDied."""
        try:
            self.connection.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died() from error
        if isinstance(message, list):
            self.jobs += 1

    def receive(self) -> FromWorker:
        """The next message. Raises WorkerDied."""
        try:
            message: FromWorker = self.connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._died() from error
        return message

    def ask_to_stop(self) -> None:
        """Have the process give up what is not stored. It may be gone already."""
        with contextlib.suppress(OSError, ValueError):
            self.connection.send(Stop())

    def end(self, timeout_s: float) -> None:
        """Wait for the process, and end it by force if it takes too long."""
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.connection.close()
        self._process.close()

    def _died(self) -> WorkerDied:
        self._process.join(ENDING_S)
        return WorkerDied(f"a worker process of the backup ended unexpectedly (exit status {self._process.exitcode})")


def start_workers(settings: WorkerSettings, count: int) -> list[WorkerProcess]:
    """Fork `count` workers. To be called before this process starts threads of its own."""
    await_ended_threads()
    context = multiprocessing.get_context("fork")
    workers: list[WorkerProcess] = []
    for _ in range(count):
        ours, theirs = context.Pipe()
        foreign = [worker.connection for worker in workers] + [ours]
        arguments = (theirs, foreign, settings, os.getpid())
        process = context.Process(target=run_worker, args=arguments, name="backup worker", daemon=True)
        process.start()
        theirs.close()
        workers.append(WorkerProcess(process, ours))
    return workers


def end_workers(workers: Iterable[WorkerProcess]) -> None:
    """Stop all workers; they have a moment to end what they are storing."""
    workers = list(workers)
    for worker in workers:
        worker.ask_to_stop()
    deadline = time.monotonic() + ENDING_S
    for worker in workers:
        worker.end(max(deadline - time.monotonic(), 0.0))


def usable_processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
