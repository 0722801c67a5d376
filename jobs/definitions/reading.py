"""Finding in a repository what the server wrote of its plans, among what hosts may have put there: they can write into it too."""

import contextlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import override

from engine.commands.dump import dump_file
from engine.errors import BlobMissing, DataDamaged, PathNotFound, TooLarge
from engine.repository import Repository as EngineRepository
from engine.snapshot import Snapshot, iter_snapshots
from jobs.definitions.describing import PATH, SIGNATURE_PATH, TAG, Definitions, ForgedDefinitions, UnusableDefinitions
from records.events import emit
from records.models import Event
from storage.models import Repository
from storage.repositories import open_with, repository_store

log = logging.getLogger(__name__)

# Some hundred thousand plans; a forged text may be of any size.
MOST_BYTES = 256 << 20
SIGNATURE_BYTES = 1000
NAMED = 20


@dataclass(slots=True)
class Found:
    """What a repository has of its plans' definitions.

    `newest`: by the time that was signed, with that time; None: there are none. `snapshots`: the ids of all that are the
    server's, the oldest first. `refused`: snapshot id and reason of those that do not count. `is_forged`: somebody has put one
    of them there.
    """

    newest: tuple[datetime, Definitions] | None = None
    snapshots: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    is_forged: bool = False


def find_definitions(row: Repository, keys: Collection[str]) -> Found:
    """Return what there is that was signed by one of the public keys; an event tells of the rest. Raises EngineError."""
    with contextlib.closing(open_with(repository_store(row), row)) as repository:
        found = _find(repository, row.repository_id, keys)
    if found.refused:
        with override(settings.LANGUAGE_CODE):
            title = _("Definitions of plans in repository %(repository)s are refused") % {"repository": row}
            said = "\n".join(f"{name[:8]}: {reason}" for name, reason in found.refused[:NAMED])
            emit(Event.Level.ERROR, Event.Topic.STORAGE, title, said, occasion=Event.Occasion.SECURITY if found.is_forged else "")
    return found


def _find(repository: EngineRepository, repository_id: str, keys: Collection[str]) -> Found:
    tagged = [snapshot for snapshot in iter_snapshots(repository, _leave) if TAG in snapshot.tags]
    if tagged:
        repository.load_index()
    found, good = Found(), []
    for snapshot in tagged:
        try:
            text = _content(repository, snapshot, PATH, MOST_BYTES)
            signature = _content(repository, snapshot, SIGNATURE_PATH, SIGNATURE_BYTES)
            good.append((*Definitions.decode(text, signature, repository_id, keys), snapshot.id))
        except (UnusableDefinitions, DataDamaged, PathNotFound, BlobMissing) as error:
            found.refused.append((snapshot.id, str(error)))
            found.is_forged |= isinstance(error, ForgedDefinitions)
    # By the time that was signed: what stands in the snapshot itself anybody can have written.
    good.sort(key=itemgetter(0, 2))
    found.newest = good[-1][:2] if good else None
    found.snapshots = [name for *_said, name in good]
    return found


def _leave(name: str, error: DataDamaged) -> None:
    # Comparing the repository with its records tells of it.
    log.warning("snapshot=%s left out: %s", name, error)


def _content(repository: EngineRepository, snapshot: Snapshot, path: str, most_bytes: int) -> bytes:
    pieces, left = [], most_bytes
    for piece in dump_file(repository, snapshot, path.encode()):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise TooLarge(f"{path} is larger than the server ever writes it")
    return b"".join(pieces)
