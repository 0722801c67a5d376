"""Presets: what it takes to back up a kind of thing as it should be, so that the host's administrator names it and no more.

A preset stands in the file of what is allowed (`agent.allowed`) with its options. It expands to commands before and after the
backup, streams, and paths. One kind is one class in a file of this package; none of them runs anything itself.
"""

from agent.presets.base import Expansion, Step, StreamStep
from agent.presets.databases import Mysql, Postgresql, Redis
from agent.presets.docker import Docker
from agent.presets.snapshots import Btrfs, Lvm, Zfs

Preset = Postgresql | Mysql | Redis | Docker | Lvm | Btrfs | Zfs

__all__ = ["Expansion", "Preset", "Step", "StreamStep"]
