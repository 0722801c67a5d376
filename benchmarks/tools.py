"""The programs that are compared, each with its own commands for the same acts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.places import Directory, Place

PASSWORD = "benchmark"


@dataclass(frozen=True)
class Tool:
    """A backup program. Its cache lies below `home`, its repository in `place`."""

    name: str
    program: tuple[str, ...]
    home: Path
    place: Place

    @property
    def repository(self) -> str:
        return self.place.address(self.home)

    def environment(self) -> dict[str, str]:
        return os.environ | self.place.variables | {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(self.home / "cache")}

    def command(self, *words: str) -> list[str]:
        return [*self.program, "-r", self.repository, *words]

    def init(self) -> list[str]:
        return self.command("init")

    def backup(self, source: Path, run: int) -> list[str]:
        return self.command("backup", str(source))

    def restore(self, source: Path, target: Path, run: int) -> list[str]:
        return self.command("restore", "latest", "--target", str(target))


class Borg(Tool):
    """borg, with encryption and zstd as the others have them."""

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(self.home / "base"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def init(self) -> list[str]:
        return [*self.program, "init", "--encryption", "repokey", self.repository]

    def backup(self, source: Path, run: int) -> list[str]:
        return [*self.program, "create", "--compression", "zstd,3", f"{self.repository}::run-{run}", str(source)]

    def restore(self, source: Path, target: Path, run: int) -> list[str]:
        return [*self.program, "extract", f"{self.repository}::run-{run}"]


def engine_and_restic(home: Path, restic_programs: list[str], place: Place) -> list[Tool]:
    """Ours first, then every restic named."""
    tools = [Tool("engine", (sys.executable, "-m", "engine"), home / "engine", place)]
    for number, program in enumerate(restic_programs):
        tools.append(Tool(f"restic {_version(program, 'version')}", (program,), home / f"restic-{number}", place))
    return tools


def available_tools(home: Path, restic_programs: list[str], place: Place) -> list[Tool]:
    """Ours first, then every restic named (or the one on PATH), then borg if it is there; it knows directories only."""
    return [*engine_and_restic(home, restic_programs or list(_on_path("restic")), place), *_borg(home, place)]


def _borg(home: Path, place: Place) -> Iterator[Tool]:
    if isinstance(place, Directory):
        for program in _on_path("borg"):
            yield Borg(f"borg {_version(program, '--version')}", (program,), home / "borg", place)


def _on_path(name: str) -> Iterator[str]:
    found = shutil.which(name)
    if found:
        yield found


def _version(program: str, word: str) -> str:
    return subprocess.run([program, word], capture_output=True, text=True, check=True).stdout.split()[1]
