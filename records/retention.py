"""Letting backups go whose hold has ended. They go to the trash (`records.deleting`), and for good when their grace is over.

A plan holds its backups in one of two ways:
- by a hold. Each is held as the plan said when that run started: by time, until the record's `hold_until`; by number, as long as it
  is among the newest backups of its plan; or for ever.
- by keep rules, restic's (`engine.retention`). The plan's present rules judge all its backups, those of earlier runs too, as
  restic's policy judges all snapshots that there are. Only a hold by time that has not ended is kept, as a promise. Once a plan is
  gone, or back to a hold, the rules that its newest run under rules had go on judging the runs under rules.

Only backups that can be restored count. None goes that is under legal hold, was brought back from the trash, or is being restored;
these count too, since they are there. The newest of a plan stays by number and by any rules. What was found in a repository
(`records.adopting`) neither counts nor goes: nobody has said how long it is to be held.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from engine.retention import KeepPolicy, apply_policy
from records.deleting import grace_text, let_backups_go
from records.events import emit
from records.keeping import RULES, keep_policy
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, Event, RecoveryRecord

log = logging.getLogger(__name__)

# The hold type of a plan whose backups are held by number (`jobs.models.BackupPlan.HoldType.COUNT`).
HELD_BY_NUMBER = 5
LET_GO_AT_ONCE = 500
_FIELDS = (
    "pk",
    "plan_name",
    "start_time",
    "queued_at",
    "hold_until",
    "legal_hold_at",
    "is_let_go",
    "is_used",
    "snapshot",
    "bytes_stored",
    "backup_detail__hold_type",
    "backup_detail__hold_time",
    "backup_detail__keep",
    "backup_detail__timezone",
)


@dataclass(frozen=True, slots=True)
class KeepRules:
    """A plan's keep rules, and the zone whose hours, days, weeks, months and years they count."""

    policy: KeepPolicy
    zone: ZoneInfo


@dataclass(frozen=True, slots=True)
class Judged:
    """A backup and why it stays: a sentence without its end for each reason. Without any it goes."""

    record: int
    name: str
    time: datetime
    snapshot: str
    bytes_stored: int | None
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class _Dated:
    """A record as the engine's rules see a snapshot."""

    record: int
    time: datetime

    def has_tags(self, tags: Iterable[str]) -> bool:
        return False


def let_expired_go(rules: Mapping[UUID, KeepRules], now: datetime) -> int:
    """Put the backups whose hold has ended into the trash; return how many. `rules`: of the plans that have any now."""
    return sum(_let_go(plan_uuid, judged) for plan_uuid, judged in judge_held(rules, now))


def judge_held(rules: Mapping[UUID, KeepRules], now: datetime) -> Iterator[tuple[UUID, list[Judged]]]:
    """Yield each plan, deleted ones too, of whose backups some may go, with what becomes of them."""
    by_time = _restorable().filter(hold_until__lte=now, is_let_go=False, legal_hold_at=None)
    by_number_or_rules = Q(backup_detail__hold_type=HELD_BY_NUMBER) | Q(backup_detail__keep__has_any_keys=list(RULES))
    others = _restorable().filter(by_number_or_rules, hold_until=None)
    held = (rows.order_by().values_list("plan_uuid", flat=True).distinct() for rows in (by_time, others))
    for plan_uuid in sorted({*rules, *chain.from_iterable(held)}):
        yield plan_uuid, judge_backups(plan_uuid, rules.get(plan_uuid), now)


def judge_backups(plan_uuid: UUID, rules: KeepRules | None, now: datetime) -> list[Judged]:
    """Return what becomes of each backup of a plan, newest first. `rules`: the plan's present ones; changes nothing."""
    used = Exists(RecoveryRecord.objects.filter(backup_record=OuterRef("pk"), state__in=ACTIVE_STATES))
    rows = list(_restorable().filter(plan_uuid=plan_uuid).annotate(is_used=used).order_by("-pk").values(*_FIELDS))
    by_rules = _kept_by_rules(rows, rules, now)
    judged = []
    for newer, row in enumerate(rows):
        reasons = [*_reasons_to_stay(row, now), *by_rules.get(row["pk"], ())]
        if row["pk"] not in by_rules:
            reasons += _reasons_of_hold(row, newer)
        name = f"{row['plan_name']} #{row['pk']}"
        judged.append(Judged(row["pk"], name, _time(row), row["snapshot"], row["bytes_stored"], tuple(reasons)))
    return judged


def kept_by_rules(times: Iterable[datetime], rules: KeepRules, now: datetime) -> list[tuple[datetime, tuple[str, ...]]]:
    """Return, of backups taken at these times, those that stay by rules, newest first, each with the reasons."""
    taken = [_Dated(number, time.astimezone(rules.zone)) for number, time in enumerate(times)]
    return [(kept.snapshot.time, kept.reasons) for kept in apply_policy(taken, rules.policy, now=now).keep]


def _let_go(plan_uuid: UUID, judged: list[Judged]) -> int:
    expired = [one.record for one in judged if not one.stays]
    if not expired:
        return 0
    with transaction.atomic():
        oldest = list(_restorable().filter(pk__in=sorted(expired)[:LET_GO_AT_ONCE]).order_by("pk"))
        gone = let_backups_go(oldest)
        if gone:
            text = ngettext(
                "Backup plan %(plan)s let %(count)d backup go",
                "Backup plan %(plan)s let %(count)d backups go",
                gone,
            )  # fmt: skip
            title = text % {"plan": oldest[-1].plan_name, "count": gone}
            message = " ".join([_("Their hold has ended."), grace_text()])
            emit(Event.Level.INFO, Event.Topic.BACKUP, title, message, plan_uuid=plan_uuid)
    log.info("plan=%s let_go=%d", plan_uuid, gone)
    return gone


def _kept_by_rules(rows: list[dict[str, Any]], rules: KeepRules | None, now: datetime) -> dict[int, tuple[str, ...]]:
    """Return, of those that rules judge, the reasons why each stays; `rows` are newest first."""
    judged = rows
    if rules is None:
        judged = [row for row in rows if row["backup_detail__keep"]]
        if not judged:
            return {}
        rules = KeepRules(keep_policy(judged[0]["backup_detail__keep"]), ZoneInfo(judged[0]["backup_detail__timezone"]))
    taken = [_Dated(row["pk"], _time(row).astimezone(rules.zone)) for row in judged]
    verdict = apply_policy(taken, rules.policy, now=now)
    return {one.record: () for one in verdict.remove} | {kept.snapshot.record: kept.reasons for kept in verdict.keep}


def _reasons_to_stay(row: dict[str, Any], now: datetime) -> list[str]:
    """Return what keeps a backup whatever rules or number say."""
    reasons = []
    if row["legal_hold_at"] is not None:
        reasons.append(_("it is under legal hold"))
    if row["is_let_go"]:
        reasons.append(_("it was brought back from the trash"))
    if row["is_used"]:
        reasons.append(_("it is being restored"))
    if row["hold_until"] is not None and row["hold_until"] > now:
        until = date_format(timezone.localtime(row["hold_until"]), "DATETIME_FORMAT")
        reasons.append(_("it is held until %(time)s") % {"time": until})
    return reasons


def _reasons_of_hold(row: dict[str, Any], newer: int) -> list[str]:
    """Return why a backup that no rules judge stays by its own hold. `newer`: how many backups of its plan came later."""
    if row["backup_detail__hold_type"] == HELD_BY_NUMBER:
        number = max(1, row["backup_detail__hold_time"] or 0)
        return [_("it is among the newest %(count)d") % {"count": number}] if newer < number else []
    return [_("it is held for ever")] if row["hold_until"] is None else []


def _time(row: dict[str, Any]) -> datetime:
    """Return the time of the backup's snapshot: when its run started."""
    time: datetime = row["start_time"] or row["queued_at"]
    return time


def _restorable() -> QuerySet[BackupRecord]:
    return BackupRecord.objects.filter(state__in=RESTORABLE_STATES, adopted_at=None, vanished_at=None)
