"""Searching the history and the events as the console does, and the indexes that they are searched by: PostgreSQL's trigrams.

A database whose owner may not have the extension `pg_trgm`, and SQLite, go without: there a search reads every row.
"""

import logging
import re
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import F, Q, QuerySet

from backupcenter.counting import expected_rows
from clients.models import Client

log = logging.getLogger(__name__)

# Of clients whose names have a word, so many at most are looked for.
CLIENTS_SEARCHED = 1000
# More than these are so frequent that the newest of them are soon met without an index.
FOUND_BY_INDEX = 50_000
# As Django asks for `icontains`.
_RECORDS_INDEX = """
CREATE INDEX backup_by_words ON records_backuprecord
USING gin (upper(plan_name::text) gin_trgm_ops, upper(error::text) gin_trgm_ops)
"""
_EVENTS_INDEX = """
CREATE INDEX event_by_words ON records_event
USING gin (upper(title::text) gin_trgm_ops, upper(message::text) gin_trgm_ops)
"""


def search_records(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Narrow backup records to those that have each word: in the name of plan or client, in the error, or as an id of theirs.

    Clients are looked for first, so that what is searched are columns of the records alone, each of which has an index.
    """
    is_found = Q()
    for word in term.split():
        clients = list(Client.objects.filter(hostname__icontains=word).values_list("pk", flat=True)[:CLIENTS_SEARCHED])
        has_word = Q(plan_name__icontains=word) | Q(error__icontains=word) | Q(client__in=clients)
        if re.fullmatch(r"[0-9a-f]{6,64}", word):
            has_word |= Q(snapshot__startswith=word)
        with suppress(ValueError):
            has_word |= Q(plan_uuid=UUID(word))
        is_found &= has_word
    return _by_index(rows, is_found)


def search_events(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Narrow events to those that have each word: in their title or their message, or as the name of their job (`backup-12`)."""
    is_found = Q()
    for word in term.split():
        is_found &= Q(title__icontains=word) | Q(message__icontains=word) | Q(job=word)
    return _by_index(rows, is_found)


def _by_index(rows: QuerySet[Any], is_found: Q) -> QuerySet[Any]:
    """Narrow rows to what is found.

    Left alone, PostgreSQL reads rows from the newest on until a page is full, as if what is found lay evenly among them: what
    happened in one week of a year is then found last. So it is told to find first, unless that is too much.
    """
    found = rows.filter(is_found)
    expected = expected_rows(found) if is_found else None
    if expected is None or expected > FOUND_BY_INDEX:
        return found
    # By an expression, which the order of the primary key does not serve. Beyond the limit, which is far, the oldest are left out.
    newest = found.order_by((F("pk") + 0).desc()).values("pk")[: 20 * FOUND_BY_INDEX]
    return rows.filter(pk__in=newest)


def add_index(apps: Any, schema_editor: Any) -> None:
    """For a migration: the index of backup records."""
    _add(schema_editor, _RECORDS_INDEX)


def remove_index(apps: Any, schema_editor: Any) -> None:
    """For a migration that is taken back."""
    _remove(schema_editor, "backup_by_words")


def add_event_index(apps: Any, schema_editor: Any) -> None:
    """For a migration: the index of events."""
    _add(schema_editor, _EVENTS_INDEX)


def remove_event_index(apps: Any, schema_editor: Any) -> None:
    """For a migration that is taken back."""
    _remove(schema_editor, "event_by_words")


def _add(schema_editor: Any, index: str) -> None:
    if schema_editor.connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            cursor.execute(index)
    except DatabaseError as error:
        log.warning("a search in the console will read every row, since pg_trgm is not to be had (docs/scaling.md): %s", error)


def _remove(schema_editor: Any, name: str) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {name}")
