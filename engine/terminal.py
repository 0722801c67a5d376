"""Progress on a terminal: one line that is written over, with rate and time left; for machines JSON lines instead."""

import json
import shutil
import sys
from typing import TextIO

from engine.progress import Progress


class ProgressLine:
    """Shows progress on standard error, if that is a terminal, or as JSON on standard output."""

    def __init__(self, *, is_json: bool, is_quiet: bool, screen: TextIO | None = None) -> None:
        self._screen = screen or sys.stderr
        self._is_json = is_json
        self._is_terminal = self._screen.isatty()
        self.is_shown = not is_quiet and (is_json or self._is_terminal)
        self._is_drawn = False

    def progress(self, progress: Progress) -> None:
        """Show the moment."""
        if self._is_json:
            print(json.dumps(_status(progress)), flush=True)
        elif self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._screen.write(f"\r\x1b[K{progress_text(progress)[:width]}")
            self._screen.flush()
            self._is_drawn = True

    def clear(self) -> None:
        """Take the line away, so that something else can be written."""
        if self._is_drawn:
            self._screen.write("\r\x1b[K")
            self._screen.flush()
            self._is_drawn = False


def progress_text(progress: Progress) -> str:
    """Return a moment as people read it: `backup  12 %  3 of 10 files  1.2 GiB of 8.0 GiB  210 MiB/s  0:31 left`."""
    parts = [progress.phase]
    if progress.bytes_total:
        parts.append(f"{min(100, 100 * progress.bytes_done // progress.bytes_total)} %")
    parts.append(
        f"{progress.files_done} of {progress.files_total} files" if progress.files_total else f"{progress.files_done} files"
    )
    total = f" of {size_text(progress.bytes_total)}" if progress.bytes_total else ""
    parts.append(size_text(progress.bytes_done) + total)
    parts.append(f"{size_text(progress.rate)}/s")
    if progress.eta_s is not None:
        minutes, seconds = divmod(int(progress.eta_s), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    if progress.errors:
        parts.append(f"{progress.errors} errors")
    if progress.current:
        parts.append(progress.current)
    return "  ".join(parts)


def size_text(size_bytes: float) -> str:
    """Return a size as people read it: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def _status(progress: Progress) -> dict[str, object]:
    done, total = progress.bytes_done, progress.bytes_total
    return {
        "message_type": "status",
        "phase": progress.phase,
        "seconds_elapsed": progress.elapsed_s,
        "seconds_remaining": progress.eta_s,
        "percent_done": done / total if total else 0,
        "total_files": progress.files_total,
        "files_done": progress.files_done,
        "total_bytes": total,
        "bytes_done": done,
        "error_count": progress.errors,
        "current_files": [progress.current] if progress.current else [],
    }
