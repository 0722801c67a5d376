"""How much a first backup will have to read: a thread that goes ahead and adds up sizes, for the progress shown to people."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterable

from engine.filter import PathFilter
from engine.progress import ProgressMeter


class Estimate:
    """Sets a meter's totals once all targets are counted; without a previous backup nothing else knows them."""

    def __init__(self, targets: Iterable[bytes], excludes: PathFilter, meter: ProgressMeter) -> None:
        self._targets, self._excludes, self._meter = targets, excludes, meter
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="estimate", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        files, size = count_files(self._targets, self._excludes, self._stopped)
        if not self._stopped.is_set():
            self._meter.files_total, self._meter.bytes_total = files, size


def count_files(targets: Iterable[bytes], excludes: PathFilter, stopped: threading.Event) -> tuple[int, int]:
    """Regular files at and below the targets, and their bytes; what cannot be read counts nothing."""
    files = size = 0
    directories: list[bytes] = []
    for target in targets:
        with contextlib.suppress(OSError):
            status = os.lstat(target)
            if stat.S_ISDIR(status.st_mode):
                directories.append(target)
            elif stat.S_ISREG(status.st_mode):
                files, size = files + 1, size + status.st_size
    while directories and not stopped.is_set():
        with contextlib.suppress(OSError), os.scandir(directories.pop()) as entries:
            for entry in entries:
                if excludes and excludes.matches(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    files, size = files + 1, size + entry.stat(follow_symlinks=False).st_size
    return files, size
