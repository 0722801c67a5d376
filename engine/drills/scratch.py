"""Scratch directories of drills, below one of the server or an agent: made, bounded, made harmless, and removed in any case.

A directory in use is locked (flock) by the process that uses it. The kernel lifts the lock of a process that dies, so that whoever
comes next tells what was left behind from what is in use, and removes it.
"""

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from engine.errors import EngineError

PREFIX = "drill-"
# A directory entry takes a block, whatever is in it.
BLOCK = 4096
# Left to whoever else lives on the file system.
KEPT_FREE = 1 << 30


@contextlib.contextmanager
def scratch_directory(top: Path, name: str) -> Iterator[Path]:
    """Make a directory that is removed at the end of the block; what earlier processes left is removed first.

    Raises EngineError if `top` cannot be used.
    """
    sweep(top)
    directory = top / f"{PREFIX}{name}"
    with _locked(top):
        try:
            directory.mkdir(mode=0o700)
        except OSError as error:
            raise EngineError(f"the drills' directory {top} cannot be used: {error.strerror}") from error
        lock = _lock(directory)
    try:
        yield directory
    finally:
        remove_tree(directory)
        if lock is not None:
            os.close(lock)


def sweep(top: Path) -> int:
    """Remove what drills left that died; return how many. Raises EngineError if `top` cannot be used."""
    swept = 0
    with _locked(top):
        for directory in sorted(top.glob(f"{PREFIX}*")):
            if directory.is_symlink() or not directory.is_dir():
                continue
            lock = _lock(directory)
            if lock is None:
                continue
            remove_tree(directory)
            os.close(lock)
            swept += 1
    return swept


def require_space(top: Path, size: int, files: int, limit: int, remedy: str) -> None:
    """Raise EngineError unless files of `size` bytes together are within `limit` and fit the file system of `top`.

    `remedy`: what else can be done than to make room there.
    """
    if size > limit:
        raise EngineError(
            f"the drill would restore {size} bytes and may restore {limit}: raise BACKUPCENTER_DRILL_GIB, or let it take a sample"
        )
    needed, free = size + files * BLOCK + KEPT_FREE, shutil.disk_usage(top).free
    if needed > free:
        raise EngineError(
            f"{top} has {free} bytes free and the drill needs {needed}: make room there, or {remedy}"
        )


def disarm(directory: Path, user: int, group: int) -> None:
    """Give all that was restored to a user who may do nothing else, and remove devices and fifos. Follows no link. For root."""
    for _path, directories, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        for name in [*directories, *files]:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
                # The kernel takes setuid bits and capabilities away with it.
                os.chown(name, user, group, dir_fd=descriptor, follow_symlinks=False)
            else:
                os.unlink(name, dir_fd=descriptor)
    # Last, so that a process of that user which an earlier command left reaches nothing that is not done with.
    os.chown(directory, user, group, follow_symlinks=False)


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, also what its modes keep from us. Follows no link. Raises OSError."""
    if os.geteuid() != 0:
        for path, directories, _files in os.walk(directory):
            for name in directories:
                below = os.path.join(path, name)
                if not os.path.islink(below):
                    os.chmod(below, stat.S_IRWXU)
    shutil.rmtree(directory)


@contextlib.contextmanager
def _locked(top: Path) -> Iterator[None]:
    """Keep other processes from making or removing directories below `top`, which is made if it is not there."""
    try:
        # Others may pass through, as the user does under whom a command runs.
        top.mkdir(mode=0o711, parents=True, exist_ok=True)
        status = top.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise EngineError(f"the drills' directory {top} must belong to the user who drills, and nobody else may write to it")
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EngineError(f"the drills' directory {top} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(directory: Path) -> int | None:
    """Return a descriptor that locks the directory; None: another process has it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
