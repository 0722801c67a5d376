"""The audit log as files, piece by piece however long it is: CSV for people's spreadsheets, JSON lines for other programs."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from accounts.models import AuditEntry

COLUMNS = ["id", "time", "actor", "address", "via", "action", "path", "outcome", "status", "touched", "unnamed"]
CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
ROWS_AT_ONCE = 500
# A spreadsheet would take what begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(entries: QuerySet[AuditEntry], form: str) -> StreamingHttpResponse:
    """Return an answer that sends the entries, oldest first. `form`: csv or jsonl."""
    write = {"csv": _csv, "jsonl": _json_lines}[form]
    response = StreamingHttpResponse(_in_threads(write(entries)), content_type=CONTENT_TYPES[form])
    response["Content-Disposition"] = f'attachment; filename="audit.{form}"'
    response["Cache-Control"] = "no-store"
    return response


def _pieces(entries: QuerySet[AuditEntry]) -> Iterator[list[dict[str, Any]]]:
    """Yield entries by their numbers, so that what is added meanwhile neither shifts nor repeats any."""
    after, rows = 0, entries.order_by("pk")
    while piece := list(rows.filter(pk__gt=after)[:ROWS_AT_ONCE].values(*COLUMNS)):
        after = piece[-1]["id"]
        yield [{**row, "time": row["time"].isoformat()} for row in piece]


def _json_lines(entries: QuerySet[AuditEntry]) -> Iterator[bytes]:
    for piece in _pieces(entries):
        yield "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in piece).encode()


def _csv(entries: QuerySet[AuditEntry]) -> Iterator[bytes]:
    yield (",".join(COLUMNS) + "\r\n").encode()
    for piece in _pieces(entries):
        text = io.StringIO()
        writer = csv.writer(text)
        for row in piece:
            writer.writerow([_cell(json.dumps(value) if name == "touched" else value) for name, value in row.items()])
        yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    read = sync_to_async(lambda: next(pieces, None))
    while (piece := await read()) is not None:
        yield piece
