"""The programs that are compared, each with its own commands for the same acts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "benchmark"


@dataclass(frozen=True)
class Tool:
    """A backup program. Its repository and cache lie below `home`."""

    name: str
    program: tuple[str, ...]
    home: Path

    @property
    def repository(self) -> Path:
        return self.home / "repository"

    def environment(self) -> dict[str, str]:
        return os.environ | {"RESTIC_PASSWORD": PASSWORD, "RESTIC_CACHE_DIR": str(self.home / "cache")}

    def init(self) -> list[str]:
        return [*self.program, "-r", str(self.repository), "init"]

    def backup(self, source: Path, run: int) -> list[str]:
        return [*self.program, "-r", str(self.repository), "backup", str(source)]

    def restore(self, source: Path, target: Path, run: int) -> list[str]:
        return [*self.program, "-r", str(self.repository), "restore", "latest", "--target", str(target)]


class Borg(Tool):
    """borg, with encryption and zstd as the others have them."""

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "BORG_PASSPHRASE": PASSWORD,
            "BORG_BASE_DIR": str(self.home / "base"),
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def init(self) -> list[str]:
        return [*self.program, "init", "--encryption", "repokey", str(self.repository)]

    def backup(self, source: Path, run: int) -> list[str]:
        return [*self.program, "create", "--compression", "zstd,3", f"{self.repository}::run-{run}", str(source)]

    def restore(self, source: Path, target: Path, run: int) -> list[str]:
        return [*self.program, "extract", f"{self.repository}::run-{run}"]


def available_tools(home: Path, restic_programs: list[str]) -> list[Tool]:
    """Ours first, then every restic named (or the one on PATH), then borg if it is there."""
    tools = [Tool("engine", (sys.executable, "-m", "engine"), home / "engine")]
    for number, program in enumerate(restic_programs or filter(None, [shutil.which("restic")])):
        version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout.split()[1]
        tools.append(Tool(f"restic {version}", (program,), home / f"restic-{number}"))
    borg = shutil.which("borg")
    if borg:
        version = subprocess.run([borg, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        tools.append(Borg(f"borg {version}", (borg,), home / "borg"))
    return tools
