"""Keeping what was measured: JSON below `benchmarks/results/`."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def write_results(name: str, file: Path | None, **fields: Any) -> None:
    """Write the fields, with when and where it was, to `file`, else to one named after the benchmark and the time."""
    now = datetime.now(UTC)
    machine = {"time": now.isoformat(timespec="seconds"), "processors": os.cpu_count(), "python": platform.python_version()}
    path = file or RESULTS / f"{name}-{now:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(machine | fields, indent=1) + "\n")
    print(f"written to {path}", file=sys.stderr)
