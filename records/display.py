"""How the console shows what records hold: lists, paths and sizes as people read them. Nothing here reads the database."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.template.defaultfilters import filesizeformat
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _

from engine.locks import WAITING

NOTHING = "-"


def size_text(size_bytes: float | None) -> str:
    return NOTHING if size_bytes is None else filesizeformat(size_bytes)


def duration_text(seconds: float | None) -> str:
    """Return `0.3 s` for what took less than a minute, else hours, minutes and seconds: `1:05:09`."""
    if seconds is None:
        return NOTHING
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def lines(texts: list[str]) -> str:
    """Return texts as HTML, one a line."""
    return format_html_join("", "<div>{}</div>", ((text,) for text in texts)) or NOTHING


def unreadable_lines(unreadable: list[dict[str, str]]) -> str:
    return lines([f"{item.get('path', '')}: {item.get('reason', '')}" for item in unreadable])


def progress_lines(progress: dict[str, Any] | None) -> str:
    """Return how far an agent's job was at its last report (`engine.progress.Progress`)."""
    if not progress:
        return NOTHING
    if progress.get("phase") == WAITING:
        return lines([_waiting()])
    shown = [
        _("%(done)s of %(total)s files") % {"done": progress.get("files_done", 0), "total": progress.get("files_total") or "?"},
        _("%(done)s of %(total)s")
        % {"done": size_text(progress.get("bytes_done", 0)), "total": size_text(progress.get("bytes_total"))},
        str(progress.get("current") or ""),
    ]
    return lines([text for text in shown if text])


def _waiting() -> str:
    return _("waits for the repository, from which something is being deleted")


def progress_percent(progress: dict[str, Any] | None) -> int | None:
    """Return how much of its bytes (or files) a job has done, of 100; None as long as nobody knows how many there are."""
    for what in ("bytes", "files"):
        done, total = (progress or {}).get(f"{what}_done"), (progress or {}).get(f"{what}_total")
        if isinstance(done, int) and isinstance(total, int) and total > 0:
            return max(0, min(100, 100 * done // total))
    return None


def progress_text(progress: dict[str, Any] | None) -> str:
    """Return how far a job is on one line: bytes, files, rate, and how long it may still take."""
    if not progress:
        return NOTHING
    if progress.get("phase") == WAITING:
        return _waiting()
    done, total, rate, left = (progress.get(name) for name in ("bytes_done", "bytes_total", "rate", "eta_s"))
    files = {"done": progress.get("files_done", 0), "total": progress.get("files_total") or "?"}
    parts = [f"{size_text(done)} / {size_text(total)}", _("%(done)s of %(total)s files") % files]
    if rate:
        parts.append(f"{size_text(rate)}/s")
    if left is not None:
        parts.append(_("%(time)s left") % {"time": duration_text(left)})
    return " · ".join(parts)


def selection_lines(backup_detail: dict[str, Any]) -> str:
    """Return what the plan of a run named, each exclusion with a minus in front, and what it had run."""
    data = _object(backup_detail.get("backup_data"))
    shown = [*map(str, data.get("include") or []), *(f"− {pattern}" for pattern in data.get("exclude") or [])]
    shown += [f"{stream['name']} ← {' '.join(stream['command'])}" for stream in data.get("streams") or []]
    shown += [_("preset: %(name)s") % {"name": name} for name in data.get("presets") or []]
    for stage, commands in (data.get("hooks") or {}).items():
        shown += [f"{stage}: {' '.join(command['command'])}" for command in commands]
    return lines(shown)


def command_lines(commands: list[dict[str, Any]]) -> str:
    """Return the commands that a job's agent has run, each with how it went and the end of what it wrote."""
    shown = (
        (
            command["stage"],
            command["command"],
            command["error"] or _("done"),
            duration_text(command["duration_s"]),
            format_html("<pre>{}</pre>", command["output"]) if command["output"] else "",
        )
        for command in commands
    )
    return format_html_join("", "<div>{}: {} – {} ({}){}</div>", shown) or NOTHING


def recovery_lines(recovery_data: str) -> str:
    """Return where a recovery puts what, and how."""
    data = _object(recovery_data)
    included = [str(path) for path in data.get("include") or []]
    others = [f"{name}: {value}" for name, value in data.items() if name not in ("destination", "include")]
    # A drill has none.
    where = [f"→ {data['destination']}"] if "destination" in data else []
    return lines([*where, *included, *others])


def result_lines(result: dict[str, Any]) -> str:
    """Return what a maintenance run found: a line for each problem and note, and for each count."""
    found: list[str] = []
    for name, value in result.items():
        if isinstance(value, list):
            found += [f"{name}: {item}" for item in value]
        else:
            found.append(f"{name}: {size_text(value) if name.startswith('bytes') else value}")
    return lines(found)


def plan_link(uuid: UUID | None, name: str = "") -> str:
    """Return a link to the plan's page in the list of plans, which a deleted one is missing from."""
    if uuid is None:
        return NOTHING
    address = reverse("admin:jobs_backupplan_changelist")
    return format_html('<a class="text-link" href="{}?uuid={}">{}</a>', address, uuid, name or uuid)


def job_link(job: str) -> str:
    """Return a link to the record of a job such as `backup-12`."""
    kind, _dash, number = job.partition("-")
    try:
        address = reverse(f"admin:records_{kind}record_change", args=[number])
    except NoReverseMatch:
        return job or NOTHING
    return format_html('<a class="text-link" href="{}">{}</a>', address, job)


def _object(text: Any) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
