"""What a check by schedule reads, and what a check has proven.

Packs fall into 256 parts by the first byte of their ids, which are hashes, so that the parts are about equal. Each day's check
looks at the whole structure and reads some parts: those in which something was wrong, then those that were read longest ago. So
every byte is read within the days that the settings say, and what one day missed the next ones make up for.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from engine.commands.check import CheckReport
from records.events import emit
from records.models import Event, MaintenanceRun
from storage.models import PARTS, Endpoint, Repository, Verification

log = logging.getLogger(__name__)

CHECKS = (MaintenanceRun.Kind.CHECK, MaintenanceRun.Kind.CHECK_DATA)
CHECK_EVERY = timedelta(days=1)
DAY_S = 86_400


class Turn:
    """Chooses the packs that a check reads (an `engine.subset.Subset`): those of `parts`, as many of them as fit `limit` bytes.

    The first part is read whatever its size, or none would ever be. `taken`: the parts that were chosen.
    """

    def __init__(self, parts: Sequence[int], limit: int | None = None) -> None:
        self.parts, self._limit = parts, limit
        self.taken: list[int] = []

    def __call__(self, packs: Mapping[bytes, int]) -> list[bytes]:
        of_part: defaultdict[int, list[bytes]] = defaultdict(list)
        for pack in packs:
            of_part[pack[0]].append(pack)
        chosen: list[bytes] = []
        size = 0
        for part in self.parts:
            size += sum(packs[pack] for pack in of_part[part])
            if self._limit is not None and size > self._limit and chosen:
                break
            self.taken.append(part)
            chosen += of_part[part]
        return chosen


def turn_of(run: MaintenanceRun) -> Turn:
    """Return what a queued check is to read: nothing, everything, or what is in turn."""
    if run.kind != MaintenanceRun.Kind.CHECK_DATA:
        return Turn([])
    if not run.arguments.get("in_turn"):
        return Turn(range(PARTS))
    verification = verification_of(run.repository)
    limit = left_to_read(run.repository.tenant.endpoint)
    if not settings.VERIFY_DATA_DAYS or limit == 0:
        return Turn([])
    begun, now = verification.begun_at.timestamp(), timezone.now().timestamp()
    parts = parts_in_turn(verification.read_at, verification.damaged, begun, now, settings.VERIFY_DATA_DAYS)
    return Turn(parts, limit)


def parts_in_turn(read_at: Sequence[int], damaged: Collection[int], begun: float, now: float, days: int) -> list[int]:
    """Return the parts to read today, so that none goes unread for longer than `days`. Times are Unix seconds."""
    order = sorted(range(PARTS), key=lambda part: (part not in damaged, read_at[part], part))
    quota = -(-PARTS // days)
    # By tomorrow they would be too old.
    late = sum((read or begun) < now + DAY_S - days * DAY_S for read in read_at)
    return order[: max(quota, late, len(damaged))]


def left_to_read(endpoint: Endpoint, now: datetime | None = None) -> int | None:
    """Return how many bytes checks by schedule may still read from the store today; None: no bound."""
    if not settings.VERIFY_GIB_PER_DAY:
        return None
    moment = now or timezone.now()
    runs = MaintenanceRun.objects.filter(
        kind=MaintenanceRun.Kind.CHECK_DATA, repository__tenant__endpoint=endpoint, end_time__gt=moment - CHECK_EVERY
    )
    spent = sum(int(result.get("bytes_read", 0)) for result in runs.values_list("result", flat=True))
    return max(0, (settings.VERIFY_GIB_PER_DAY << 30) - spent)


def verification_of(repository: Repository) -> Verification:
    """Return the repository's verification, begun now if there is none."""
    now = timezone.now()
    return Verification.objects.get_or_create(repository=repository, defaults={"begun_at": now, "due_at": now})[0]


def note_check(run: MaintenanceRun, found: CheckReport, parts: Sequence[int]) -> None:
    """Note what a check that began with the run has found; `parts` are those of which it read all packs."""
    begun = run.start_time or timezone.now()
    damaged = {pack[0] for pack in found.damaged_packs}
    is_structure_sound = len(found.problems) <= sum(found.damaged_packs.values())
    with transaction.atomic():
        verification_of(run.repository)
        row = Verification.objects.select_for_update().get(repository=run.repository)
        was_damaged = row.state == Verification.State.DAMAGED
        for part in set(parts) - damaged:
            row.read_at[part] = int(begun.timestamp())
        row.damaged = sorted((set(row.damaged) - set(parts)) | damaged)
        row.structure_at = begun if is_structure_sound else row.structure_at
        if found.problems or not row.damaged:
            row.problem = found.problems[0] if found.problems else ""
        row.due_at = begun + CHECK_EVERY
        row.save()
        if was_damaged and row.state != Verification.State.DAMAGED:
            title = _("Repository %(repository)s is sound again") % {"repository": run.repository}
            emit(Event.Level.SUCCESS, Event.Topic.MAINTENANCE, title)
    if row.state == Verification.State.OVERDUE:
        title = _("Repository %(repository)s was not read as a whole within %(days)d days") % {
            "repository": run.repository,
            "days": settings.VERIFY_DATA_DAYS,
        }
        reason = _("Checks may read %(limit)d GiB a day from its store; raise BACKUPCENTER_VERIFY_GIB_PER_DAY.")
        said = reason % {"limit": settings.VERIFY_GIB_PER_DAY}
        emit(Event.Level.WARNING, Event.Topic.MAINTENANCE, title, said, occasion=Event.Occasion.CHECK_FAILED)
