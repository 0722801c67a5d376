"""A prune of a repository with 50 snapshots: the engine beside restic, in alternation, on copies of one repository.

    python benchmarks/prune.py [--snapshots N] [--files N] [--changed N] [--runs N] [--restic PROGRAM] [--s3 PLACE] [--json FILE]

The repository is made once: each snapshot overwrites some of the files with random content. Two patterns of forgetting: `oldest`
keeps the newest fifth of the snapshots, so that what goes lies together; `spread` keeps every fifth, so that what goes lies among
what stays. Each program prunes a copy of its own, by default on a Ceph gateway that is started here, with the usual limit of 5 %
unused. `look` is the engine's plan alone (`--dry-run`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.measure import Measurement, measure  # noqa: E402
from benchmarks.places import Place, Traffic, open_place  # noqa: E402
from benchmarks.report import write_results  # noqa: E402
from benchmarks.tools import PASSWORD, Tool, engine_and_restic  # noqa: E402
from engine.backends import Credentials, open_store  # noqa: E402
from engine.commands.backup import backup  # noqa: E402
from engine.commands.forget import forget  # noqa: E402
from engine.repository import Repository  # noqa: E402
from engine.store import FileKind, Store  # noqa: E402

MIB = 1 << 20
PATTERNS = ("oldest", "spread")


@dataclass(frozen=True, slots=True)
class Sample:
    """One prune. `before`, `after`: bytes of the repository; `traffic.bytes_up` is what was written again."""

    pattern: str
    tool: str
    measurement: Measurement
    before: int
    after: int
    traffic: Traffic | None


def make_repository(home: Path, snapshots: int, files: int, changed: int) -> list[str]:
    """Back up a directory whose files change from run to run to `home/made`; return the snapshots, oldest first."""
    rng = random.Random(7)
    source = home / "source"
    source.mkdir()
    with contextlib.closing(Repository.init(open_store(str(home / "made")), PASSWORD)) as repository:
        made = []
        for number in range(snapshots):
            for file in rng.sample(range(files), changed) if number else range(files):
                (source / f"{file:03}").write_bytes(rng.randbytes(MIB))
            made.append(str(backup(repository, [str(source)], host="benchmark").snapshot_id))
    return made


def copy_repository(source: Store, target: Store) -> None:
    """Copy all but locks, as they are."""
    target.create()
    for kind in set(FileKind) - {FileKind.LOCKS, FileKind.CONFIG}:
        for name, _size in source.list(kind):
            target.put(kind, name, source.get(kind, name))
    target.put(FileKind.CONFIG, "", source.get(FileKind.CONFIG, ""))


class Benchmark:
    """Prunes of copies of one repository."""

    def __init__(self, home: Path, place: Place, tools: list[Tool], snapshots: list[str]) -> None:
        self._home, self._place, self._tools, self._snapshots = home, place, tools, snapshots
        self.samples: list[Sample] = []

    def run(self, number: int, pattern: str) -> None:
        """Prune a copy with each program; who begins changes from run to run."""
        fifth = len(self._snapshots) // 5
        kept = self._snapshots[-fifth:] if pattern == "oldest" else self._snapshots[4::5]
        tools = self._tools[number % len(self._tools) :] + self._tools[: number % len(self._tools)]
        for tool in tools:
            tool.home.mkdir(parents=True, exist_ok=True)
            self._copy(tool, set(kept))
            if tool is self._tools[0]:
                self._measure(pattern, tool, "look", "prune", "--dry-run")
            self._measure(pattern, tool, tool.name, "prune")
            self._place.clear(tool.repository)

    def _copy(self, tool: Tool, kept: set[str]) -> None:
        variables = self._place.variables
        credentials = Credentials(variables["AWS_ACCESS_KEY_ID"], variables["AWS_SECRET_ACCESS_KEY"]) if variables else None
        made = open_store(str(self._home / "made"))
        with contextlib.closing(open_store(tool.repository, credentials=credentials)) as store:
            copy_repository(made, store)
            with contextlib.closing(Repository.open(store, PASSWORD)) as repository:
                forget(repository, [name for name in self._snapshots if name not in kept])

    def _measure(self, pattern: str, tool: Tool, name: str, *words: str) -> None:
        before = self._place.size(tool.repository)
        os.sync()
        self._place.begin()
        measured = measure(tool.command(*words), env=tool.environment(), cwd=ROOT, log=tool.home / "log")
        traffic = self._place.traffic()
        self.samples.append(Sample(pattern, name, measured, before, self._place.size(tool.repository), traffic))
        print(f"  {pattern:8} {name:14} {measured.wall_s:7.2f} s", file=sys.stderr, flush=True)


def table(samples: list[Sample]) -> str:
    """Medians for each pattern and program."""
    lines = [f"{'pattern':10}{'program':16}{'wall s':>8}{'CPU s':>8}{'peak MiB':>10}{'before MiB':>12}{'after MiB':>11}"
             f"{'written MiB':>13}{'read MiB':>10}{'requests':>10}"]  # fmt: skip
    for pattern, tool in dict.fromkeys((sample.pattern, sample.tool) for sample in samples):
        some = [sample for sample in samples if (sample.pattern, sample.tool) == (pattern, tool)]
        told = [sample.traffic for sample in some if sample.traffic is not None]
        figures = [
            (statistics.median(sample.measurement.wall_s for sample in some), "8.2f"),
            (statistics.median(sample.measurement.cpu_s for sample in some), "8.2f"),
            (statistics.median(sample.measurement.peak_bytes for sample in some) / MIB, "10.0f"),
            (statistics.median(sample.before for sample in some) / MIB, "12.1f"),
            (statistics.median(sample.after for sample in some) / MIB, "11.1f"),
        ]
        if told:
            figures += [
                (statistics.median(traffic.bytes_up or 0 for traffic in told) / MIB, "13.1f"),
                (statistics.median(traffic.bytes_down or 0 for traffic in told) / MIB, "10.1f"),
                (statistics.median(sum(traffic.requests.values()) for traffic in told), "10.0f"),
            ]
        lines.append(f"{pattern:10}{tool:16}" + "".join(format(figure, spec) for figure, spec in figures))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time prunes by the engine and by restic of copies of one repository.")
    parser.add_argument("--snapshots", type=int, default=50, metavar="N", help="snapshots (default: 50)")
    parser.add_argument("--files", type=int, default=48, metavar="N", help="files of 1 MiB (default: 48)")
    parser.add_argument("--changed", type=int, default=6, metavar="N", help="of them changed for each snapshot (default: 6)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of everything (default: 3)")
    parser.add_argument("--restic", default="restic", metavar="PROGRAM", help="the restic to compare with")
    parser.add_argument("--s3", default="ceph", metavar="PLACE", help="ceph (the default), or http[s]://host[:port]/bucket[/prefix]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here (default: benchmarks/results/)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory, open_place(options.s3) as place:
        home = Path(directory)
        snapshots = make_repository(home, options.snapshots, options.files, options.changed)
        tools = engine_and_restic(home, [options.restic], place)
        benchmark = Benchmark(home, place, tools, snapshots)
        for number in range(options.runs):
            print(f"run {number + 1} of {options.runs}", file=sys.stderr)
            for pattern in PATTERNS:
                benchmark.run(number, pattern)
        print(table(benchmark.samples))
        write_results(
            "prune",
            options.json,
            snapshots=options.snapshots,
            files=options.files,
            changed=options.changed,
            runs=options.runs,
            s3=options.s3,
            samples=[asdict(sample) for sample in benchmark.samples],
        )


if __name__ == "__main__":
    main()
