"""Small disks of their own for the programs of an installation, which can be full."""

import errno
import os
import subprocess
from functools import cache
from pathlib import Path

FILLER = ".filler"


@cache
def may_mount(directory: Path) -> bool:
    """Whether a disk can be mounted here, which containers may forbid even to root."""
    probe = directory / "probe"
    probe.mkdir()
    try:
        Disk(probe, 1).unmount()
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        probe.rmdir()
    return True


class Disk:
    """A file system in memory of `megabytes`, mounted at a new or empty directory."""

    def __init__(self, path: Path, megabytes: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "backupcenter-tests", str(path)]
        subprocess.run(command, check=True, capture_output=True)

    def fill(self) -> None:
        """Leave no byte free."""
        descriptor = os.open(self.path / FILLER, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            step = 1 << 20
            while step >= 4096:
                try:
                    os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        finally:
            os.close(descriptor)

    def free(self) -> None:
        (self.path / FILLER).unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True, capture_output=True)
