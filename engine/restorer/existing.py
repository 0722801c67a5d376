"""What happens to an entry that stands in the target already, where one of a snapshot is to be made."""

import os
import stat
from typing import Literal

from engine.restorer.plan import Outline

Overwrite = Literal["always", "if-changed", "if-newer", "never"]
OVERWRITE_MODES: tuple[Overwrite, ...] = ("always", "if-changed", "if-newer", "never")


def keeps_existing(overwrite: Overwrite, status: os.stat_result | None, entry: Outline) -> bool:
    """Whether what stands there (`status`; None: nothing) is left as it is. Raises DataDamaged."""
    if status is None or overwrite == "always":
        return False
    if overwrite == "never":
        return True
    node = entry.node()
    if overwrite == "if-newer":
        return status.st_mtime_ns >= node.mtime_ns
    is_same_kind = stat.S_ISREG(status.st_mode) == (node.type == "file")
    return is_same_kind and node.type == "file" and (status.st_size, status.st_mtime_ns) == (node.size, node.mtime_ns)
