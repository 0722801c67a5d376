"""The engine beside restic and borg on the same generated data, in alternation.

    python benchmarks/engine.py [--size MIB] [--files N] [--runs N] [--only WORK] [--restic PROGRAM] [--s3 PLACE] [--json FILE]

Every program does each work in turn, and a ratio compares the medians; so that what else the machine does strikes all alike.
The source is in the page cache. `--s3 ceph` does it on a Ceph gateway of its own, `--s3 URL` on any S3 store; `--s3 memory` counts
requests, and times nothing. Results are also written as JSON under `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.generate import change_large_files, total_size, write_large_files, write_small_files  # noqa: E402
from benchmarks.measure import Measurement, measure  # noqa: E402
from benchmarks.places import VERBS, Place, Traffic, open_place  # noqa: E402
from benchmarks.report import write_results  # noqa: E402
from benchmarks.tools import Tool, available_tools  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
WORKS = ("large", "changed", "restore-large", "small", "unchanged", "restore-small")
TITLES = {
    "large": "first backup, large files",
    "changed": "1 % changed",
    "restore-large": "restore large files",
    "small": "first backup, small files",
    "unchanged": "unchanged second run",
    "restore-small": "restore small files",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one work by one program. `source_bytes`: of what was backed up or restored."""

    work: str
    tool: str
    measurement: Measurement
    repository_bytes: int
    source_bytes: int
    traffic: Traffic | None


Groups = dict[tuple[str, str], list[Sample]]


class Benchmark:
    """The works in their order, on one set of generated data."""

    def __init__(self, home: Path, place: Place, tools: list[Tool], works: set[str], restore_to: Path) -> None:
        self._home, self._place, self._tools, self._works, self._restore_to = home, place, tools, works, restore_to
        self.samples: list[Sample] = []

    def run(self, number: int, size_mib: int, files: int) -> None:
        """Every work once by every program; who begins changes from run to run."""
        tools = self._tools[number % len(self._tools) :] + self._tools[: number % len(self._tools)]
        if self._works & {"large", "changed", "restore-large"}:
            source = self._home / "large"
            write_large_files(source, size_mib)
            self._begin(tools)
            self._each("large", tools, source, lambda tool: tool.backup(source, 0))
            if self._works & {"changed"}:
                change_large_files(source)
                self._each("changed", tools, source, lambda tool: tool.backup(source, 1))
            if "restore-large" in self._works:
                self._each("restore-large", tools, source, lambda tool: tool.restore(source, self._restored(tool), self._last()))
            shutil.rmtree(source)
        if self._works & {"small", "unchanged", "restore-small"}:
            source = self._home / "small"
            write_small_files(source, files)
            self._begin(tools)
            self._each("small", tools, source, lambda tool: tool.backup(source, 0))
            if "unchanged" in self._works:
                self._each("unchanged", tools, source, lambda tool: tool.backup(source, 1))
            if "restore-small" in self._works:
                self._each("restore-small", tools, source, lambda tool: tool.restore(source, self._restored(tool), 0))
            shutil.rmtree(source)

    def _last(self) -> int:
        return 1 if "changed" in self._works else 0

    def _begin(self, tools: Iterable[Tool]) -> None:
        self.clear()
        for tool in tools:
            tool.home.mkdir(parents=True)
            measure(tool.init(), env=tool.environment(), cwd=ROOT, log=tool.home / "log")

    def clear(self) -> None:
        """Leave nothing of any repository."""
        for tool in self._tools:
            self._place.clear(tool.repository)
            shutil.rmtree(tool.home, ignore_errors=True)

    def _each(self, work: str, tools: Iterable[Tool], source: Path, command: Callable[[Tool], list[str]]) -> None:
        for tool in tools:
            content = total_size(source)
            target = self._restored(tool)
            shutil.rmtree(target, ignore_errors=True)
            cwd = ROOT
            if work.startswith("restore"):
                target.mkdir(parents=True)
                cwd = target if tool.name.startswith("borg") else ROOT
            os.sync()
            self._place.begin()
            measured = measure(command(tool), env=tool.environment(), cwd=cwd, log=tool.home / "log")
            traffic = self._place.traffic()
            size = self._place.size(tool.repository)
            if work.startswith("restore"):
                restored = total_size(target)
                shutil.rmtree(target)
                if restored != content:
                    raise RuntimeError(f"{tool.name} restored {restored} bytes of {content}")
            if work in self._works:
                self.samples.append(Sample(work, tool.name, measured, size, content, traffic))
                print(f"  {work:14} {tool.name:14} {measured.wall_s:7.2f} s", file=sys.stderr, flush=True)

    def _restored(self, tool: Tool) -> Path:
        return self._restore_to / tool.home.name


def time_table(groups: Groups, tools: list[Tool]) -> str:
    """Medians of each work, and the first program's as a ratio to the others'."""
    lines = [
        f"{'work':28}{'program':16}{'wall s':>8}{'CPU s':>8}{'peak MiB':>10}{'repo MiB':>10}"
        f"{'engine/this: wall':>19}{'CPU':>7}{'peak':>7}{'repo':>7}"
    ]
    for work in WORKS:
        ours = _medians(groups.get((work, tools[0].name), []))
        for tool in tools:
            values = _medians(groups.get((work, tool.name), []))
            if values is None or ours is None:
                continue
            wall, cpu, peak, repository = values
            line = f"{TITLES[work]:28}{tool.name:16}{wall:8.2f}{cpu:8.2f}{peak / MIB:10.0f}{repository / MIB:10.1f}"
            if tool is not tools[0]:
                ratios = [a / b if b else 0.0 for a, b in zip(ours, values, strict=True)]
                line += f"{ratios[0]:19.2f}{ratios[1]:7.2f}{ratios[2]:7.2f}{ratios[3]:7.2f}"
            lines.append(line)
    return "\n".join(lines)


def request_table(groups: Groups, tools: list[Tool]) -> str:
    """What the store was asked in each work, medians; a GiB is one of the files that were backed up or restored."""
    head = "".join(f"{verb:>8}" for verb in VERBS)
    lines = [f"{'work':28}{'program':16}{head}{'PUT/GiB':>10}{'GET/GiB':>10}{'MiB up':>10}{'MiB down':>10}{'connections':>13}"]
    for work in WORKS:
        for tool in tools:
            told = [(sample.traffic, sample.source_bytes) for sample in groups.get((work, tool.name), []) if sample.traffic]
            if not told:
                continue
            of_verbs = {verb: statistics.median(traffic.requests[verb] for traffic, _ in told) for verb in VERBS}
            per_gib = [statistics.median(traffic.requests[verb] * GIB / size for traffic, size in told) for verb in ("PUT", "GET")]
            line = f"{TITLES[work]:28}{tool.name:16}" + "".join(f"{of_verbs[verb]:8.0f}" for verb in VERBS)
            line += "".join(f"{number:10.0f}" for number in per_gib)
            line += _median_of([traffic.bytes_up for traffic, _ in told], MIB, 10)
            line += _median_of([traffic.bytes_down for traffic, _ in told], MIB, 10)
            lines.append(line + _median_of([traffic.connections for traffic, _ in told], 1, 13))
    return "\n".join(lines)


def _median_of(numbers: list[int | None], unit: int, width: int) -> str:
    known = [number for number in numbers if number is not None]
    return f"{statistics.median(known) / unit:{width}.0f}" if known else f"{'-':>{width}}"


def _medians(samples: list[Sample]) -> tuple[float, float, float, float] | None:
    if not samples:
        return None
    measured = [sample.measurement for sample in samples]
    return (
        statistics.median(m.wall_s for m in measured),
        statistics.median(m.cpu_s for m in measured),
        statistics.median(m.peak_bytes for m in measured),
        statistics.median(sample.repository_bytes for sample in samples),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the engine, restic and borg on the same data, in alternation.")
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="large files altogether (default: 2048)")
    parser.add_argument("--files", type=int, default=60_000, metavar="N", help="small files (default: 60000)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of everything (default: 3)")
    parser.add_argument("--only", action="append", choices=WORKS, help="measure only this work (may be repeated)")
    parser.add_argument("--restic", action="append", default=[], metavar="PROGRAM", help="a restic to compare with (repeatable)")
    parser.add_argument("--without", action="append", default=[], metavar="NAME", help="leave out these programs, as in borg")
    parser.add_argument("--directory", type=Path, help="where data and repositories go (default: the temporary directory)")
    parser.add_argument("--s3", metavar="PLACE", help="on S3: ceph, memory, or http[s]://host[:port]/bucket[/prefix]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here (default: benchmarks/results/)")
    options = parser.parse_args()

    memory_disk = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.directory) as home,
        tempfile.TemporaryDirectory(prefix="benchmark-", dir=memory_disk if memory_disk.is_dir() else None) as restored,
        open_place(options.s3) as place,
    ):
        tools = [
            tool
            for tool in available_tools(Path(home), options.restic, place)
            if not any(tool.name.startswith(name) for name in options.without)
        ]
        benchmark = Benchmark(Path(home), place, tools, set(options.only or WORKS), Path(restored))
        for number in range(options.runs):
            print(f"run {number + 1} of {options.runs}", file=sys.stderr)
            benchmark.run(number, options.size, options.files)
        benchmark.clear()
        groups: Groups = defaultdict(list)
        for sample in benchmark.samples:
            groups[sample.work, sample.tool].append(sample)
        if place.is_timed:
            print(time_table(groups, tools))
        if options.s3:
            print(request_table(groups, tools))
        write_results(
            "engine",
            options.json,
            size_mib=options.size,
            files=options.files,
            runs=options.runs,
            s3=options.s3,
            samples=[asdict(sample) for sample in benchmark.samples],
        )


if __name__ == "__main__":
    main()
