"""Whether time and memory grow in proportion: 10 and 100 times the blobs of an index, and 10 and 100 times the files.

    python benchmarks/growth.py [--blobs N,N,N] [--files N,N,N] [--only WORK] [--restic PROGRAM] [--json FILE]

The blobs are synthesised (`benchmarks.synthesis`), the files written to memory: 100 to 1000 bytes each. Programs take turns.
Of each size it tells how many times the time of the size before it took, and the bytes of memory that each blob or file more did,
which leaves out what a program takes at any size. Results are also written as JSON under `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.generate import total_size, write_tiny_files  # noqa: E402
from benchmarks.measure import Measurement, measure  # noqa: E402
from benchmarks.places import Directory  # noqa: E402
from benchmarks.report import write_results  # noqa: E402
from benchmarks.synthesis import synthesise  # noqa: E402
from benchmarks.tools import PASSWORD, Tool, engine_and_restic  # noqa: E402

MIB = 1 << 20
WORKS_WITH_BLOBS = {"load": "load the index", "check-blobs": "check", "prune-blobs": "prune --dry-run"}
WORKS_WITH_FILES = {
    "backup": "first backup",
    "unchanged": "unchanged second run",
    "restore": "restore",
    "check": "check",
    "forget": "forget --keep-last 1",
    "prune": "prune --dry-run",
}
TITLES = WORKS_WITH_BLOBS | WORKS_WITH_FILES


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one work by one program. `count`: the blobs or files."""

    work: str
    tool: str
    count: int
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """The index in the engine's memory. `kept_bytes`: what the process has grown by; lookups of 100,000 ids, known and unknown."""

    count: int
    load_s: float
    kept_bytes: int
    hits_s: float
    misses_s: float


def with_blobs(home: Path, tools: list[Tool], count: int, blobs_per_pack: int, works: set[str]) -> Iterator[Sample | IndexFigures]:
    """Measure what reads the index, each program on the same repository of so many blobs."""
    repository = home / "repository"
    root = synthesise(repository, PASSWORD, count, blobs_per_pack).hex()
    os.sync()
    if "load" in works:
        engine = tools[0]
        log = home / "figures"
        command = [engine.program[0], "-m", "benchmarks.indexload", str(repository)]
        measure(command, env=engine.environment(), cwd=ROOT, log=log)
        yield IndexFigures(count, **json.loads(log.read_text()))
    words = {"load": ["cat", "blob", root], "check-blobs": ["check"], "prune-blobs": ["prune", "--dry-run"]}
    for work in WORKS_WITH_BLOBS:
        for tool in tools if work in works else []:
            tool.home.mkdir(parents=True, exist_ok=True)
            yield _run(work, tool, count, [*tool.program, "-r", str(repository), *words[work]])


def with_files(source: Path, target: Path, tools: list[Tool], count: int, works: set[str]) -> Iterator[Sample]:
    """Measure the life of a repository of so many files, which are written to `source`; each program has its own repository."""
    write_tiny_files(source, count)
    for tool in tools:
        tool.home.mkdir(parents=True)
        measure(tool.init(), env=tool.environment(), cwd=ROOT, log=tool.home / "log")
    words = {
        "backup": ["backup", str(source)],
        "unchanged": ["backup", str(source)],
        "restore": ["restore", "latest", "--target", str(target)],
        "check": ["check"],
        "forget": ["forget", "--keep-last", "1"],
        "prune": ["prune", "--dry-run"],
    }
    content = total_size(source)
    for work in WORKS_WITH_FILES:
        for tool in tools if work in works | {"backup"} else []:
            os.sync()
            sample = _run(work, tool, count, tool.command(*words[work]))
            if work in works:
                yield sample
            if work == "restore":
                restored = total_size(target)
                shutil.rmtree(target)
                if restored != content:
                    raise RuntimeError(f"{tool.name} restored {restored} bytes of {content}")


def _run(work: str, tool: Tool, count: int, command: list[str]) -> Sample:
    measured = measure(command, env=tool.environment(), cwd=ROOT, log=tool.home / "log")
    print(f"  {count:>9,} {work:14} {tool.name:14} {measured.wall_s:7.2f} s", file=sys.stderr, flush=True)
    return Sample(work, tool.name, count, measured)


def growth_table(samples: list[Sample]) -> str:
    """A line for each size of each work of each program, beside the size before it."""
    head = f"{'work':24}{'program':16}{'count':>11}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}{'µs each':>9}"
    lines = [head + f"{'times the count':>17}{'wall':>7}{'CPU':>7}{'bytes for one more':>20}"]
    for work, title in TITLES.items():
        for tool in dict.fromkeys(sample.tool for sample in samples):
            before: Sample | None = None
            for sample in samples:
                if (sample.work, sample.tool) != (work, tool):
                    continue
                now = sample.measurement
                line = f"{title:24}{tool:16}{sample.count:11,}{now.wall_s:9.2f}{now.cpu_s:9.2f}{now.peak_bytes / MIB:10.0f}"
                line += f"{now.wall_s / sample.count * 1e6:9.1f}"
                if before:
                    then = before.measurement
                    line += f"{sample.count / before.count:17.0f}{now.wall_s / then.wall_s:7.1f}{now.cpu_s / then.cpu_s:7.1f}"
                    line += f"{(now.peak_bytes - then.peak_bytes) / (sample.count - before.count):20.0f}"
                lines.append(line)
                before = sample
    return "\n".join(lines)


def index_table(figures: list[IndexFigures]) -> str:
    """The index in memory, by its number of blobs."""
    head = f"{'index in memory, blobs':>24}{'load s':>9}{'µs a blob':>11}{'bytes a blob':>14}{'for one more':>14}"
    lines = [head + f"{'100k hits s':>13}{'misses s':>10}"]
    before: IndexFigures | None = None
    for one in figures:
        line = f"{one.count:24,}{one.load_s:9.2f}{one.load_s / one.count * 1e6:11.1f}{one.kept_bytes / one.count:14.1f}"
        more = f"{(one.kept_bytes - before.kept_bytes) / (one.count - before.count):.1f}" if before else ""
        lines.append(f"{line}{more:>14}{one.hits_s:13.3f}{one.misses_s:10.3f}")
        before = one
    return "\n".join(lines)


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.replace("_", "").split(",") if number]


def main() -> None:
    parser = argparse.ArgumentParser(description="Show how time and memory grow with blobs and files.")
    parser.add_argument("--blobs", type=_counts, default="50000,500000,5000000", metavar="N,…", help="blobs, '' for none")
    parser.add_argument("--blobs-per-pack", type=int, default=100, metavar="N", help="(default: 100)")
    parser.add_argument("--files", type=_counts, default="10000,100000,1000000", metavar="N,…", help="files, '' for none")
    parser.add_argument("--only", action="append", choices=TITLES, help="measure only this work (may be repeated)")
    parser.add_argument("--restic", action="append", default=[], metavar="PROGRAM", help="a restic to compare with (repeatable)")
    parser.add_argument("--directory", type=Path, help="where repositories go (default: the temporary directory)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here (default: benchmarks/results/)")
    options = parser.parse_args()

    works = set(options.only or TITLES)
    samples: list[Sample] = []
    figures: list[IndexFigures] = []
    memory_disk = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(prefix="growth-", dir=options.directory) as directory,
        tempfile.TemporaryDirectory(prefix="growth-", dir=memory_disk if memory_disk.is_dir() else None) as files,
    ):
        for count in options.blobs if works & WORKS_WITH_BLOBS.keys() else []:
            home = Path(directory) / f"blobs-{count}"
            tools = engine_and_restic(home, options.restic, Directory())
            for found in with_blobs(home, tools, count, options.blobs_per_pack, works):
                if isinstance(found, Sample):
                    samples.append(found)
                else:
                    figures.append(found)
        for count in options.files if works & WORKS_WITH_FILES.keys() else []:
            source, target = Path(files) / f"source-{count}", Path(files) / "restored"
            tools = engine_and_restic(Path(directory) / f"files-{count}", options.restic, Directory())
            samples += with_files(source, target, tools, count, works)
        # Before what takes minutes to be deleted is.
        if figures:
            print(index_table(figures) + "\n")
        print(growth_table(samples), flush=True)
        write_results(
            "growth",
            options.json,
            blobs_per_pack=options.blobs_per_pack,
            index=[asdict(one) for one in figures],
            samples=[asdict(sample) for sample in samples],
        )


if __name__ == "__main__":
    main()
