"""Snapshots of volumes and file systems: what is backed up is how things were at one moment.

A snapshot shows each time at the same place, so that the next backup finds its files unchanged there. What a run that was cut off
has left behind is cleared away first, by the same names.
"""

from agent.presets.base import BasePreset, Expansion, Step, option_problem, path_problem

MOUNTS = "/run/backupcenter"


class _Mounted(BasePreset, frozen=True, kw_only=True):
    """A snapshot that is mounted read-only at `mount`; of it `paths`, relative to that, are backed up, all if none is named."""

    mount: str = ""
    paths: list[str] = []

    @property
    def place(self) -> str:
        return self.mount or f"{MOUNTS}/{self.called}"

    @property
    def snapshot(self) -> str:
        return f"backupcenter-{self.called}"

    def mounted(self, take: Step, mount: tuple[str, ...], remove: tuple[str, ...]) -> Expansion:
        unmount = ("umount", self.place)
        return Expansion(
            before=[
                Step(unmount, may_fail=True),
                Step(remove, may_fail=True),
                take,
                Step(("mkdir", "-p", self.place)),
                Step((*mount, self.place)),
            ],
            paths=paths_below(self.place, self.paths),
            after=[Step(unmount), Step(remove)],
        )

    def problem(self) -> str | None:
        return path_problem(mount=[self.place]) or inside_problem(self.paths)


class Lvm(_Mounted, frozen=True, kw_only=True, tag="lvm"):
    """LVM: a snapshot of `volume` ("group/name") that holds `size` of changes. XFS needs options = "ro,nouuid"."""

    volume: str
    size: str = "5G"
    options: str = "ro"

    def expand(self) -> Expansion:
        group, _slash, _name = self.volume.partition("/")
        take = Step(("lvcreate", "--yes", "--snapshot", "--size", self.size, "--name", self.snapshot, self.volume))
        mount = ("mount", "-o", self.options, f"/dev/{group}/{self.snapshot}")
        return self.mounted(take, mount, ("lvremove", "--yes", f"{group}/{self.snapshot}"))

    def problem(self) -> str | None:
        if self.volume.count("/") != 1:
            return "“volume” must be a volume group and a volume, like vg0/data"
        problem = option_problem(volume=[self.volume], size=[self.size], options=[self.options])
        return problem or super().problem()


class Zfs(_Mounted, frozen=True, kw_only=True, tag="zfs"):
    """ZFS: a snapshot of `dataset`, without those below it."""

    dataset: str

    def expand(self) -> Expansion:
        snapshot = f"{self.dataset}@{self.snapshot}"
        take = Step(("zfs", "snapshot", snapshot))
        return self.mounted(take, ("mount", "-t", "zfs", "-o", "ro", snapshot), ("zfs", "destroy", snapshot))

    def problem(self) -> str | None:
        if self.dataset.startswith("/") or "@" in self.dataset:
            return "“dataset” must be the name of a file system or volume, like tank/data"
        return option_problem(dataset=[self.dataset]) or super().problem()


class Btrfs(BasePreset, frozen=True, kw_only=True, tag="btrfs"):
    """Btrfs: a read-only snapshot of `subvolume`, without those below it, at `snapshot` in the same file system."""

    subvolume: str
    snapshot: str = ""
    paths: list[str] = []

    def expand(self) -> Expansion:
        place = self.snapshot or f"{self.subvolume.rstrip('/')}/.backupcenter-{self.called}"
        remove = ("btrfs", "subvolume", "delete", place)
        return Expansion(
            before=[Step(remove, may_fail=True), Step(("btrfs", "subvolume", "snapshot", "-r", self.subvolume, place))],
            paths=paths_below(place, self.paths),
            after=[Step(remove)],
        )

    def problem(self) -> str | None:
        places = [self.snapshot] if self.snapshot else []
        return path_problem(subvolume=[self.subvolume], snapshot=places) or inside_problem(self.paths)


def paths_below(place: str, paths: list[str]) -> list[str]:
    return [f"{place}/{path}" for path in paths] or [place]


def inside_problem(paths: list[str]) -> str | None:
    for path in paths:
        if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
            return f"“paths” are relative to the snapshot, and “{path}” is not"
    return None
