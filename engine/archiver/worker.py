"""What runs in a worker process: list directories, read and pack small files, until told to stop.

It is forked, so that the index and the patterns are shared with the archiver and need not be sent. A thread takes messages in at
once, since two processes that both wait to be read from would wait forever.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue

from engine.archiver.batch import SmallFiles
from engine.archiver.directory import DirectoryLister
from engine.archiver.messages import (
    Answer,
    DirectoryJob,
    Failure,
    Flush,
    Flushed,
    FromArchiver,
    FromWorker,
    Listing,
    Results,
    Split,
    Stop,
    StoredPack,
)
from engine.blob import BlobType
from engine.errors import EngineError
from engine.filter import PathFilter
from engine.index import IndexedPack
from engine.lifeline import end_with_parent
from engine.packer import PackWriter
from engine.repository import Repository

RESULTS_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What every worker of a backup needs to know.

    `trusts_attributes`: whoever took the parent snapshot could read the extended attributes that we can.
    """

    repository: Repository
    excludes: PathFilter
    trusts_attributes: bool


class _Stopped(Exception):
    """The archiver wants nothing more of this process."""


class Worker:
    """One worker process's side of the conversation."""

    def __init__(self, connection: Connection, settings: WorkerSettings) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._jobs: SimpleQueue[list[DirectoryJob] | Flush | Stop] = SimpleQueue()
        self._answers: SimpleQueue[Answer | Stop] = SimpleQueue()
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="upload")
        repository = settings.repository.reopened()
        slot = threading.BoundedSemaphore(1)
        self._packer = PackWriter(repository.store, repository.key, BlobType.DATA, self._uploads, slot, self._report_pack)
        self._small_files = SmallFiles(
            repository.key, repository.config.version, repository.index, self._packer, self._send, self._next_answer
        )
        self._lister = DirectoryLister(settings.excludes, repository, self._small_files, settings.trusts_attributes)

    def run(self) -> None:
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        try:
            self._work()
        except _Stopped:
            pass
        except EngineError as error:
            self._send(Failure(error))
        finally:
            self._uploads.shutdown(wait=True, cancel_futures=True)
            self._packer.abandon()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if isinstance(job, Stop):
                return
            if isinstance(job, Flush):
                self._small_files.flush()
                self._packer.flush()
                self._send(Flushed())
            else:
                self._list(job)

    def _list(self, jobs: list[DirectoryJob]) -> None:
        found: list[Listing | Split] = []
        due = time.monotonic() + RESULTS_EVERY_S
        for job in jobs:
            found.append(self._lister.list(job))
            if time.monotonic() > due and job is not jobs[-1]:
                self._send(Results(found, is_last=False))
                found, due = [], time.monotonic() + RESULTS_EVERY_S
        self._send(Results(found, is_last=True))

    def _next_answer(self) -> Answer:
        answer = self._answers.get()
        if isinstance(answer, Stop):
            raise _Stopped
        return answer

    def _receive(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                message: FromArchiver = self._connection.recv()
                if isinstance(message, Answer):
                    self._answers.put(message)
                    continue
                if isinstance(message, Stop):
                    self._answers.put(message)
                self._jobs.put(message)
        os._exit(1)  # the archiver is gone, and with it the reason to go on

    def _report_pack(self, pack: IndexedPack, size: int) -> None:
        blobs = [(blob.id, blob.offset, blob.length, blob.uncompressed_length) for blob in pack.blobs]
        self._send(StoredPack(pack.id, size, blobs))

    def _send(self, message: FromWorker) -> None:
        with self._sending:
            self._connection.send(message)


def run_worker(connection: Connection, foreign: Iterable[Connection], settings: WorkerSettings, parent: int) -> None:
    """The main function of a worker process of the process `parent`.

    `foreign`: inherited ends of pipes that only the archiver may hold open.
    """
    end_with_parent(parent)
    # What was inherited is not looked at by the collector again, which would copy its pages.
    gc.freeze()
    for other in foreign:
        other.close()
    # Ctrl-C reaches the whole group; the archiver decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(BrokenPipeError):
        Worker(connection, settings).run()
