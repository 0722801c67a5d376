"""Rows as files, piece by piece however many there are: CSV for people's spreadsheets, JSON lines for other programs."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import QuerySet
from django.http import StreamingHttpResponse

CONTENT_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
ROWS_AT_ONCE = 500
# A spreadsheet would take what begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(rows: QuerySet[Any], columns: Sequence[str], name: str, form: str) -> StreamingHttpResponse:
    """Return an answer that sends the rows as a file of this name, oldest first.

    `columns`: `id` and `time` must be among them. `form`: csv or jsonl.
    """
    pieces = _pieces(rows, columns)
    written = _csv(pieces, columns) if form == "csv" else _json_lines(pieces)
    response = StreamingHttpResponse(_in_threads(written), content_type=CONTENT_TYPES[form])
    response["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    response["Cache-Control"] = "no-store"
    return response


def _pieces(found: QuerySet[Any], columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield rows by their numbers, so that what is added meanwhile neither shifts nor repeats any."""
    after, rows = 0, found.order_by("pk")
    while piece := list(rows.filter(pk__gt=after)[:ROWS_AT_ONCE].values(*columns)):
        after = piece[-1]["id"]
        yield [{**row, "time": row["time"].isoformat()} for row in piece]


def _json_lines(pieces: Iterator[list[dict[str, Any]]]) -> Iterator[bytes]:
    for piece in pieces:
        yield "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in piece).encode()


def _csv(pieces: Iterator[list[dict[str, Any]]], columns: Sequence[str]) -> Iterator[bytes]:
    yield (",".join(columns) + "\r\n").encode()
    for piece in pieces:
        text = io.StringIO()
        writer = csv.writer(text)
        for row in piece:
            writer.writerow([_cell(value) for value in row.values()])
        yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


async def _in_threads(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    read = sync_to_async(lambda: next(pieces, None))
    while (piece := await read()) is not None:
        yield piece
