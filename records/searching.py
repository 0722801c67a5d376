"""Searching the history as the console does, and the index that it is searched by: PostgreSQL's trigrams.

A database whose owner may not have the extension `pg_trgm`, and SQLite, go without: there a search reads every record.
"""

import logging
import re
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet

from clients.models import Client

log = logging.getLogger(__name__)

# Of clients whose names have a word, so many at most are looked for.
CLIENTS_SEARCHED = 1000
# As Django asks for `icontains`.
_INDEX = """
CREATE INDEX backup_by_words ON records_backuprecord
USING gin (upper(plan_name::text) gin_trgm_ops, upper(error::text) gin_trgm_ops)
"""


def search_records(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Narrow backup records to those that have each word: in the name of plan or client, in the error, or as an id of theirs.

    Clients are looked for first, so that what is searched are columns of the records alone, each of which has an index.
    """
    for word in term.split():
        clients = list(Client.objects.filter(hostname__icontains=word).values_list("pk", flat=True)[:CLIENTS_SEARCHED])
        is_found = Q(plan_name__icontains=word) | Q(error__icontains=word) | Q(client__in=clients)
        if re.fullmatch(r"[0-9a-f]{6,64}", word):
            is_found |= Q(snapshot__startswith=word)
        with suppress(ValueError):
            is_found |= Q(plan_uuid=UUID(word))
        rows = rows.filter(is_found)
    return rows


def add_index(apps: Any, schema_editor: Any) -> None:
    """For a migration."""
    if schema_editor.connection.vendor != "postgresql":
        return
    try:
        with transaction.atomic(using=schema_editor.connection.alias), schema_editor.connection.cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            cursor.execute(_INDEX)
    except DatabaseError as error:
        log.warning("searching the history will read every record, since pg_trgm is not to be had (docs/scaling.md): %s", error)


def remove_index(apps: Any, schema_editor: Any) -> None:
    """For a migration that is taken back."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP INDEX IF EXISTS backup_by_words")
