"""Eight hosts back up into one repository of a real object store, while others forget and prune: nothing is lost or left over.

The hosts' trees have much content in common, which comes, goes and comes back: what one host backs up anew, a prune is about to
delete since another host has forgotten it. Prints what was done; `pytest --soak -s` shows it.
"""

import json
import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from engine.backends import Credentials
from engine.store import FileKind
from tests.engine.changing_tree import ChangingTree
from tests.engine.fingerprint import fingerprint
from tests.engine.processes import Ended, Site

pytestmark = [pytest.mark.soak, pytest.mark.restic, pytest.mark.ceph]

MINUTES = 30
HOSTS = 8
CONTENTS = 1000
# Means of the pauses between two runs; who deletes needs a moment in which nobody backs up.
BACKUP_PAUSE_S, FORGET_PAUSE_S, PRUNE_PAUSE_S, REFUSED_PAUSE_S = 12.0, 5.0, 4.0, 1.0


class Soak:
    """Hosts, a forgetter and a pruner, each with a thread here and processes of its own, one after the other.

    `taken`: of each snapshot the source, and its fingerprint at that time; `forgotten`: ids.
    """

    def __init__(self, site: Site, directory: Path, rng: random.Random) -> None:
        self.site, self.directory, self.rng = site, directory, rng
        self.taken: dict[str, tuple[Path, str]] = {}
        self.forgotten: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._over = threading.Event()

    def run(self, minutes: float) -> None:
        """Let all work for so long. Raises what the first of them fails with, once the others have ended."""
        loops: list[Callable[[random.Random], None]] = [self.forget, self.prune]
        loops += [self.host(number) for number in range(HOSTS)]
        with ThreadPoolExecutor(len(loops)) as threads:
            running = [threads.submit(loop, random.Random(self.rng.random())) for loop in loops]
            wait(running, minutes * 60, FIRST_EXCEPTION)
            self._over.set()
        for loop in running:
            loop.result()

    def host(self, number: int) -> Callable[[random.Random], None]:
        source = self.directory / f"host-{number}"

        def back_up(rng: random.Random) -> None:
            tree = ChangingTree(source, rng, small=80, large=2, contents=CONTENTS)
            while not self._over.is_set():
                now = fingerprint(source)
                ended = self.until_allowed(rng, "backup", "--host", f"host-{number}", source)
                if ended is not None:
                    summary = ended.summary
                    self.taken[summary["snapshot_id"]] = source, now
                    self.count(backups=1, bytes_backed_up=summary["bytes_stored"])
                    tree.change(0.3)
                    self.pause(rng, BACKUP_PAUSE_S)

        return back_up

    def forget(self, rng: random.Random) -> None:
        while not self._over.is_set():
            ended = self.until_allowed(rng, "forget", "--keep-last", "2")
            if ended is not None:
                removed = {snapshot["id"] for group in ended.summary for snapshot in group["remove"] or ()}
                self.forgotten |= removed
                self.count(forgets=1, snapshots_forgotten=len(removed))
            self.pause(rng, FORGET_PAUSE_S)

    def prune(self, rng: random.Random) -> None:
        while not self._over.is_set():
            ended = self.until_allowed(rng, "prune", "--max-unused", rng.choice(["0", "5%"]), "--retry-lock", "1m")
            if ended is not None:
                summary = ended.summary
                did = ("bytes_added", "bytes_deleted", "packs_deleted", "packs_spared")
                self.count(prunes=1, **{name: summary[name] for name in did})
            self.pause(rng, PRUNE_PAUSE_S)

    def until_allowed(self, rng: random.Random, verb: str, *arguments: object) -> Ended | None:
        """Run a verb until nobody is in its way; None if the soak is over before."""
        while True:
            ended = self.site.engine(verb, *arguments)
            if not ended.is_refused:
                return ended
            self.count(**{f"{verb}s_refused": 1})
            if self.pause(rng, REFUSED_PAUSE_S):
                return None

    def pause(self, rng: random.Random, mean_s: float) -> bool:
        """Wait for a while of which `mean_s` is the mean; return whether the soak is over."""
        return self._over.wait(rng.expovariate(1 / mean_s))

    def count(self, **what: int) -> None:
        with self._counting:
            self.counts.update(what)


def test_what_eight_hosts_back_up_while_others_forget_and_prune_is_all_there(ceph_endpoint, tmp_path, rng, soak_share):
    keys = Credentials(*ceph_endpoint.make_user("concurrency"))
    site = Site(f"s3:{ceph_endpoint.url}/concurrency/repository", keys)
    site.init()
    soak = Soak(site, tmp_path, rng)
    try:
        soak.run(MINUTES * soak_share)
    finally:
        print("\n" + "\n".join(f"{name.replace('_', ' '):<20}{count:>14,}" for name, count in sorted(soak.counts.items())))

    # Whoever ended has taken his lock away.
    assert list(site.open().store.list(FileKind.LOCKS)) == []
    assert "no errors were found" in site.restic("check", "--read-data")
    left = {snapshot["id"] for snapshot in json.loads(site.restic("snapshots", "--json"))}
    assert left == soak.taken.keys() - soak.forgotten
    for snapshot_id in sorted(left):
        source, then = soak.taken[snapshot_id]
        site.restic("restore", snapshot_id, "--target", tmp_path / "restored")
        assert fingerprint(f"{tmp_path}/restored{source}") == then, f"snapshot {snapshot_id} is not what it was of"
        shutil.rmtree(tmp_path / "restored")
    print(f"{len(left)} snapshots left, restored and compared")
    assert min(soak.counts[name] for name in ("backups", "snapshots_forgotten", "prunes", "bytes_added", "packs_deleted")) > 0
