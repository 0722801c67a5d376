"""Opening files for reading, and noticing when they change while they are read."""

from __future__ import annotations

import os
import stat

# A pipe that took a file's place must not block; a link must not lead elsewhere. Only a file's owner may leave its access time.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHANGED = "the file changed while it was read"
LOST_XATTRS = "its extended attributes cannot be read"


def open_file(path: bytes) -> int:
    """A descriptor of a regular file. Raises OSError."""
    if os.geteuid() == 0 and hasattr(os, "O_NOATIME"):
        try:
            return os.open(path, _FLAGS | os.O_NOATIME)
        except PermissionError:  # root in a user namespace, or over the network, is not every file's owner
            pass
    return os.open(path, _FLAGS)


def has_changed(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether what was read between the two may be a mixture."""
    return (
        before.st_mtime_ns != after.st_mtime_ns
        # Whoever sets the modification time back cannot do so with this one.
        or before.st_ctime_ns != after.st_ctime_ns
        or before.st_size != after.st_size
        or before.st_ino != after.st_ino
        or not stat.S_ISREG(after.st_mode)
    )


def reason(error: OSError) -> str:
    """What went wrong, as a person would say it."""
    return (error.strerror or str(error)).lower()
