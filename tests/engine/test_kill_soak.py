"""Backups and prunes that are killed at any instant: nothing that was finished is lost, and the next run ends the work.

The instants are spread evenly over what a run takes, of the engine as it is and of a hasty one (`tests.engine.hasty`), which
is in the middle of storing nearly all the time. Prints what the killed runs left behind; `pytest --soak -s` shows it.
"""

import math
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.backends import Credentials, open_store
from engine.store import FileKind, Store
from tests.engine.changing_tree import ChangingTree
from tests.engine.fingerprint import fingerprint
from tests.engine.holdings import Holdings, Watcher
from tests.engine.processes import ENGINE, HASTY, Site

pytestmark = [pytest.mark.soak, pytest.mark.restic]

KILLS_OF_BACKUPS, KILLS_OF_PRUNES, KILLS_ON_CEPH = 200, 100, 8
# After so many kills everything is read, old snapshots are forgotten, and a run is timed anew.
BLOCK = 20
COMPARE_EVERY = 5
PROGRAMS = (ENGINE, HASTY)
HOST = ("--host", "h")
ALL_UNUSED = ("--max-unused", "0")


@dataclass(slots=True)
class Tally:
    """What was seen. `left`: how many killed runs of each program left what behind."""

    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended_before: int = 0
    compared: int = 0
    lengths_s: list[float] = field(default_factory=list)
    bytes_reused: int = 0
    bytes_in_vain: int = 0

    @property
    def kills(self) -> int:
        return self.left.total()

    def show(self, verb: str, stages: tuple[str, ...]) -> None:
        shortest, longest = min(self.lengths_s), max(self.lengths_s)
        print(f"\n{self.kills} kills of {verb} ({shortest:.1f} to {longest:.1f} s each); {self.ended_before} runs ended before")
        print(f"{'furthest thing left behind':<42}{'engine':>8}{'hasty':>8}")
        for stage in stages:
            print(f"{stage:<42}" + "".join(f"{self.left[program, stage]:>8}" for program in PROGRAMS))
        print(
            f"{self.bytes_reused / 1e6:.0f} MB of packs that killed runs had indexed were used by the next, "
            f"{self.bytes_in_vain / 1e6:.0f} MB in no index were stored again; {self.compared} snapshots restored and compared"
        )


def instants(rng: random.Random, lengths: dict[str, float], count: int) -> Iterator[tuple[str, float]]:
    """Yield a program and an instant of its run, in seconds from its start, for each of so many kills: evenly, in no order."""
    drawn = []
    for number in range(count):
        program = PROGRAMS[number % len(PROGRAMS)]
        drawn.append((program, (number + rng.random()) / count * lengths[program]))
    rng.shuffle(drawn)
    yield from drawn


def require_sound(site: Site, *options: str) -> None:
    """Remove the locks of those who are gone, as a user would, and have restic look for errors."""
    site.restic("unlock")
    assert "no errors were found" in site.restic("check", *options)


def compare(site: Site, taken: dict[str, str], snapshot_id: str, source: Path, tmp_path: Path, tally: Tally) -> None:
    """Restore a snapshot, with restic or the engine, and compare all of it with what its source was."""
    target = tmp_path / "restored"
    if tally.compared % 2:
        site.restic("restore", snapshot_id, "--target", target)
    else:
        assert site.engine("restore", snapshot_id, "--target", target).status == 0
    assert fingerprint(f"{target}{source}") == taken[snapshot_id], f"snapshot {snapshot_id} is not what it was of"
    shutil.rmtree(target)
    tally.compared += 1


# -- backups -----------------------------------------------------------------------------------------------------------

LEFT_BY_BACKUPS = ("nothing", "a lock", "a part of a pack", "packs in no index", "packs in an index", "the snapshot")


def left_by_backup(before: Holdings, after: Holdings) -> str:
    """Return the furthest thing that a killed backup has come to."""
    seen = (
        after.locks > before.locks,
        after.partial > before.partial,
        after.packs.keys() > before.packs.keys(),
        after.index.keys() > before.index.keys(),
        after.snapshots > before.snapshots,
    )
    return LEFT_BY_BACKUPS[max((number for number, is_there in enumerate(seen, 1) if is_there), default=0)]


class KilledBackups:
    """A repository, and a tree that changes before each backup to it. `taken`: the fingerprint of each snapshot's source."""

    def __init__(self, site: Site, tmp_path: Path, rng: random.Random) -> None:
        self.site, self.tmp_path, self.rng = site, tmp_path, rng
        self.source = tmp_path / "source"
        self.tree = ChangingTree(self.source, rng, small=2000, large=10)
        self.taken: dict[str, str] = {}
        self.tally = Tally()
        site.init()
        self.watcher = Watcher(site)

    def run(self, kills: int) -> None:
        self.back_up()
        while self.tally.kills < kills:
            lengths = {program: self.measure(program) for program in PROGRAMS}
            self.tally.lengths_s += lengths.values()
            for program, instant in instants(self.rng, lengths, min(BLOCK, kills - self.tally.kills)):
                self.kill(program, instant)
            self.tidy()

    def back_up(self, program: str = ENGINE) -> dict:
        summary = self.site.engine("backup", *HOST, self.source, program=program).summary
        self.taken[summary["snapshot_id"]] = fingerprint(self.source)
        return summary

    def measure(self, program: str) -> float:
        """Return how many seconds a run takes that is not killed."""
        self.tree.change(0.4)
        started = time.monotonic()
        self.back_up(program)
        return time.monotonic() - started

    def kill(self, program: str, instant: float) -> None:
        self.tree.change(0.4)
        before = self.watcher.look()
        ended = self.site.start("backup", *HOST, self.source, program=program).kill_after(instant)
        killed = self.watcher.look()
        new = killed.snapshots - before.snapshots
        # A snapshot that is there is whole, whether its run came to say so or not.
        self.taken |= dict.fromkeys(new, fingerprint(self.source))
        require_sound(self.site)
        assert killed.snapshots == self.taken.keys()
        if ended.status == 0:
            self.tally.ended_before += 1
            return
        self.tally.left[program, left_by_backup(before, killed)] += 1
        self.back_up()
        after = self.watcher.look()
        assert after.snapshots == self.taken.keys()
        # What an index file named is not stored again, by whichever run.
        assert [blob for blob, count in after.blobs().items() if count > 1] == []
        assert after.unindexed() == killed.unindexed()
        indexed = killed.packs.keys() - before.packs.keys() - killed.unindexed()
        self.tally.bytes_reused += killed.bytes_of(indexed)
        self.tally.bytes_in_vain += killed.bytes_of(killed.unindexed() - before.unindexed())
        if self.tally.kills % COMPARE_EVERY == 0:
            self.compare_two()

    def compare_two(self) -> None:
        older = sorted(self.taken)
        for snapshot_id in (list(self.taken)[-1], self.rng.choice(older)):
            compare(self.site, self.taken, snapshot_id, self.source, self.tmp_path, self.tally)

    def tidy(self) -> None:
        """Read everything; then forget most, and have a prune clear away what killed runs left."""
        require_sound(self.site, "--read-data")
        self.compare_two()
        assert self.site.engine("forget", "--keep-last", "3").status == 0
        assert self.site.engine("prune").status == 0
        held = self.watcher.look()
        assert (len(held.snapshots), held.unindexed(), held.partial, held.locks) == (3, set(), set(), set())
        self.taken = {snapshot_id: source for snapshot_id, source in self.taken.items() if snapshot_id in held.snapshots}
        require_sound(self.site, "--read-data")
        self.compare_two()


def test_wherever_a_backup_is_killed_nothing_is_lost_and_the_next_one_uses_what_it_stored(tmp_path, rng, soak_share):
    soak = KilledBackups(Site(str(tmp_path / "repository")), tmp_path, rng)
    soak.run(math.ceil(KILLS_OF_BACKUPS * soak_share))
    soak.tally.show("backup", LEFT_BY_BACKUPS)
    assert soak.tally.bytes_reused or soak.tally.kills < BLOCK


@pytest.mark.ceph
def test_a_backup_to_an_object_store_may_be_killed_as_well(ceph_endpoint, tmp_path, rng):
    keys = Credentials(*ceph_endpoint.make_user("killed-backups"))
    soak = KilledBackups(Site(f"s3:{ceph_endpoint.url}/killed-backups", keys), tmp_path, rng)
    soak.run(KILLS_ON_CEPH)
    soak.tally.show("backup to Ceph", LEFT_BY_BACKUPS)


# -- prunes ------------------------------------------------------------------------------------------------------------

LEFT_BY_PRUNES = (
    "nothing",
    "a lock",
    "a part of a pack",
    "rewritten packs in no index",
    "rewritten packs in an index",
    "fewer packs, of those in no index",
    "fewer index files",
    "fewer packs, of those in the index",
)


def left_by_prune(before: Holdings, after: Holdings) -> str:
    """Return the furthest thing that a killed prune has come to."""
    seen = (
        after.locks > before.locks,
        after.partial > before.partial,
        after.packs.keys() - before.packs.keys(),
        after.index.keys() - before.index.keys(),
        before.unindexed() - after.packs.keys(),
        before.index.keys() - after.index.keys(),
        before.packs.keys() - after.packs.keys() - before.unindexed(),
    )
    return LEFT_BY_PRUNES[max((number for number, is_there in enumerate(seen, 1) if is_there), default=0)]


class KilledPrunes:
    """Repositories with much to prune, each made anew for a few kills and copied for each of them."""

    def __init__(self, site: Site, tmp_path: Path, rng: random.Random) -> None:
        self.site, self.tmp_path, self.rng = site, tmp_path, rng
        self.source = tmp_path / "source"
        self.tree = ChangingTree(self.source, rng, small=5000, large=20)
        self.filled: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        self.tally = Tally()
        self.watcher: Watcher

    def run(self, kills: int) -> None:
        while self.tally.kills < kills:
            self.fill()
            lengths = {program: self.measure(program) for program in PROGRAMS}
            self.tally.lengths_s += lengths.values()
            for program, instant in instants(self.rng, lengths, min(BLOCK, kills - self.tally.kills)):
                self.kill(program, instant)
            require_sound(self.site, "--read-data")

    def fill(self) -> None:
        """Make a repository with small packs in which the snapshots that are left need some of nearly each."""
        template = Site(str(self.tmp_path / "template"))
        shutil.rmtree(template.location, ignore_errors=True)
        template.init()
        self.filled = {}
        for _ in range(5):
            self.tree.change(0.3)
            summary = template.engine("backup", *HOST, self.source, program=HASTY).summary
            self.filled[summary["snapshot_id"]] = fingerprint(self.source)
        for forgotten in list(self.filled)[:-1:2]:
            assert template.engine("forget", forgotten).status == 0
            del self.filled[forgotten]
        # Left by a killed backup.
        (Path(template.location) / "data" / "ab" / ("ab" * 32)).write_bytes(self.rng.randbytes(1 << 20))

    def renew(self) -> None:
        """Have the repository be what `fill` has made of it."""
        template = self.tmp_path / "template"
        if self.site.credentials:
            copy_to_store(template, open_store(self.site.location, credentials=self.site.credentials))
        else:
            shutil.rmtree(self.site.location, ignore_errors=True)
            # No file of a repository is ever changed, so that links are as good as copies.
            shutil.copytree(template, self.site.location, copy_function=os.link)
        self.taken = dict(self.filled)
        self.watcher = Watcher(self.site)

    def measure(self, program: str) -> float:
        """Return how many seconds a prune takes that is not killed."""
        self.renew()
        started = time.monotonic()
        summary = self.site.engine("prune", *ALL_UNUSED, program=program).summary
        length = time.monotonic() - started
        assert summary["packfiles"]["repack"] > 10
        return length

    def kill(self, program: str, instant: float) -> None:
        self.renew()
        before = self.watcher.look()
        ended = self.site.start("prune", *ALL_UNUSED, program=program).kill_after(instant)
        killed = self.watcher.look()
        require_sound(self.site)
        assert killed.snapshots == self.taken.keys()
        if ended.status == 0:
            self.tally.ended_before += 1
            return
        self.tally.left[program, left_by_prune(before, killed)] += 1
        if self.tally.kills % 2:
            self.back_up_the_same()
        if self.tally.kills % COMPARE_EVERY == 0:
            self.compare_one()
        rewritten = killed.named_by(killed.index.keys() - before.index.keys()) - before.packs.keys()
        self.end_the_work(rewritten)
        self.tally.bytes_reused += killed.bytes_of(rewritten)
        self.tally.bytes_in_vain += killed.bytes_of(killed.unindexed() - before.packs.keys())
        if self.tally.kills % COMPARE_EVERY == 0:
            self.compare_one()

    def back_up_the_same(self) -> None:
        """Read all of what the newest snapshot has anew; it is found there, but for trees above the source."""
        summary = self.site.engine("backup", *HOST, "--force", self.source).summary
        assert summary["bytes_added"] < 20_000
        self.taken[summary["snapshot_id"]] = fingerprint(self.source)

    def end_the_work(self, rewritten: set[str]) -> None:
        """Prune again: what was rewritten and indexed stays as it is, and nothing is left over."""
        assert self.site.engine("prune", *ALL_UNUSED).status == 0
        after = self.watcher.look()
        assert after.snapshots == self.taken.keys()
        assert rewritten <= after.packs.keys()
        assert [blob for blob, count in after.blobs().items() if count > 1] == []
        assert (after.unindexed(), after.partial, after.locks) == (set(), set(), set())
        again = self.site.engine("prune", *ALL_UNUSED, "--dry-run").summary
        assert (again["packfiles"]["remove_total"], again["packfiles"]["repack"]) == (0, 0)
        require_sound(self.site)

    def compare_one(self) -> None:
        compare(self.site, self.taken, self.rng.choice(sorted(self.taken)), self.source, self.tmp_path, self.tally)


def copy_to_store(directory: Path, store: Store) -> None:
    """Have the store hold what the directory holds, and nothing else."""
    store.create()
    for kind in FileKind:
        wanted = {path.name: path for path in (directory / kind.value).rglob("*") if path.is_file()}
        if kind is FileKind.CONFIG:
            wanted = {"": directory / "config"}
        there = {name for name, _ in store.list(kind) if kind is not FileKind.CONFIG}
        for name in there - wanted.keys():
            store.delete(kind, name)
        for name in wanted.keys() - there:
            store.put(kind, name, wanted[name].read_bytes())


def test_wherever_a_prune_is_killed_nothing_is_lost_and_the_next_one_ends_the_work(tmp_path, rng, soak_share):
    soak = KilledPrunes(Site(str(tmp_path / "repository")), tmp_path, rng)
    soak.run(math.ceil(KILLS_OF_PRUNES * soak_share))
    soak.tally.show("prune", LEFT_BY_PRUNES)
    assert soak.tally.bytes_reused or soak.tally.kills < BLOCK


@pytest.mark.ceph
def test_a_prune_of_an_object_store_may_be_killed_as_well(ceph_endpoint, tmp_path, rng):
    keys = Credentials(*ceph_endpoint.make_user("killed-prunes"))
    soak = KilledPrunes(Site(f"s3:{ceph_endpoint.url}/killed-prunes", keys), tmp_path, rng)
    soak.run(KILLS_ON_CEPH)
    soak.tally.show("prune on Ceph", LEFT_BY_PRUNES)
