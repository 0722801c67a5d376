"""What a dry run of a restore has found: how many files it would create, overwrite, keep and remove, with the first of each."""

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from backupcenter.api.fields import MAX_INT64
from backupcenter.api.text import storable
from records.models import RecoveryRecord

ACTIONS = ("created", "overwritten", "kept", "removed")
# Of each kind; an agent tells no more.
CHANGES_KEPT = 250
PATH_LENGTH = 4096


@dataclass(frozen=True, slots=True)
class PreviewTable:
    """What would happen to `count` files of `size` bytes; `rows`: the first of them as [path, bytes]."""

    action: str
    label: str
    count: int
    size: int
    rows: list[list[Any]]

    @property
    def is_whole(self) -> bool:
        return len(self.rows) == self.count


def kept_preview(told: Any) -> dict[str, Any] | None:
    """Return what is kept of what an agent told: counts, bytes and the first of each kind as [path, bytes]; None: it told none."""
    if not isinstance(told, dict):
        return None
    names = [*ACTIONS, *(f"bytes_{action}" for action in ACTIONS), "directories"]
    kept: dict[str, Any] = {name: told[name] if _is_count(told.get(name)) else 0 for name in names}
    changes = told.get("changes")
    listed = changes if isinstance(changes, dict) else {}
    kept["changes"] = {action: _rows(listed.get(action)) for action in ACTIONS}
    return kept


def _rows(told: Any) -> list[list[Any]]:
    rows = (row for row in (told if isinstance(told, list) else [])[:CHANGES_KEPT] if isinstance(row, list) and len(row) == 2)
    return [[storable(path)[:PATH_LENGTH], size] for path, size in rows if isinstance(path, str) and _is_count(size)]


def _is_count(told: Any) -> bool:
    return type(told) is int and 0 <= told <= MAX_INT64


def preview_tables(record: RecoveryRecord) -> list[PreviewTable]:
    """Return what a dry run has found, what changes most first."""
    found = record.preview
    if not found:
        return []
    labels = {
        "removed": _("would be removed, as something of another kind comes in their place"),
        "overwritten": _("would be overwritten"),
        "created": _("would be created"),
        "kept": _("would be left as they are"),
    }
    return [
        PreviewTable(action, label, found[action], found[f"bytes_{action}"], found["changes"][action])
        for action, label in labels.items()
    ]
