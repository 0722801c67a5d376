"""The threads or processes that write, or verify, the pieces of a restore."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import msgspec

from engine.lifeline import await_ended_threads, end_with_parent
from engine.repository import Repository
from engine.restorer.pieces import TaskResult
from engine.restorer.plan import Piece
from engine.restorer.target import Target

WORKERS = max(2, min(8, os.cpu_count() or 2))

SMALL_PIECES = 256
SMALL_BYTES = 8 << 20
# Tasks have thousands of pieces, which pickle would take ten times as long for.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Piece]).decode

Act = Callable[[Repository, Target, Sequence[Piece]], TaskResult]


class Workers:
    """Threads or processes that do `act` on tasks. Each has a target of its own, each process a store of its own."""

    def __init__(self, repository: Repository, directory: bytes, act: Act) -> None:
        self._repository, self._directory, self._act = repository, directory, act
        self._executor: Executor | None = None
        self._is_forked = False
        self._local = threading.local()
        self._targets: list[Target] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        for target in self._targets:
            target.close()

    def start(self, first: Sequence[Piece]) -> None:
        """Start them, unless they are. `first` are the first pieces: if they are few, that is all, and not worth a process."""
        if self._executor is not None:
            return
        is_small = len(first) < SMALL_PIECES and sum(piece.size for piece in first) < SMALL_BYTES
        self._is_forked = not is_small and threading.current_thread() is threading.main_thread()
        self._executor = self._processes() if self._is_forked else ThreadPoolExecutor(WORKERS, thread_name_prefix="restore")

    def submit(self, task: list[Piece]) -> "Future[TaskResult]":
        assert self._executor is not None
        if self._is_forked:
            return self._executor.submit(_work_in_process, _encode(task))
        return self._executor.submit(self._work_in_thread, task)

    def _processes(self) -> Executor:
        await_ended_threads()
        context = multiprocessing.get_context("fork")
        begin = (self._repository, self._directory, self._act, os.getpid())
        return ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_begin_process, initargs=begin)

    def _work_in_thread(self, task: list[Piece]) -> TaskResult:
        target = getattr(self._local, "target", None)
        if target is None:
            target = self._local.target = Target(self._directory)
            self._targets.append(target)
        return self._act(self._repository, target, task)


_in_process: tuple[Repository, Target, Act] | None = None


def _begin_process(repository: Repository, directory: bytes, act: Act, parent: int) -> None:
    global _in_process
    end_with_parent(parent)
    # A Ctrl-C at the terminal reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _in_process = repository.reopened(), Target(directory), act


def _work_in_process(task: bytes) -> TaskResult:
    assert _in_process is not None
    repository, target, act = _in_process
    return act(repository, target, _decode(task))
