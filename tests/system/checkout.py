"""A checkout as somebody has it who has just cloned it, and an environment that knows nothing of this one."""

import os
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
OURS = ("BACKUPCENTER_", "DJANGO_", "PYTHON", "VIRTUAL_ENV")


def copy_checkout(destination: Path) -> None:
    """Copy what git tracks, or would, as it is in the working tree."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0"):
        if name and (TOP / name).exists():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, destination / name)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what the tests have set in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
