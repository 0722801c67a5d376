"""What plans say about how long their backups stay, applied to the records or only tried."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone

from jobs.models import BackupPlan
from records.keeping import keep_policy
from records.retention import Judged, KeepRules, judge_backups, judge_held, let_expired_go

# Of a preview; it counts all.
SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of a plan's backups by these keep rules (or, without any, by their holds), newest first."""

    keep: dict[str, Any]
    judged: list[Judged]

    @property
    def go(self) -> list[Judged]:
        return [one for one in self.judged if not one.stays][:SHOWN]

    @property
    def stay(self) -> list[Judged]:
        return [one for one in self.judged if one.stays][:SHOWN]

    @property
    def total_go(self) -> int:
        return sum(not one.stays for one in self.judged)

    @property
    def total_stay(self) -> int:
        return sum(one.stays for one in self.judged)


def apply_retention(now: datetime | None = None) -> int:
    """Put all backups into the trash whose hold has ended, or that their plan's keep rules do not keep; return how many."""
    return let_expired_go(_present_rules(), now or timezone.now())


def expired_backups(now: datetime | None = None) -> Iterator[Judged]:
    """Yield what `apply_retention` would put into the trash now, also of plans that were deleted."""
    for _uuid, judged in judge_held(_present_rules(), now or timezone.now()):
        yield from (one for one in judged if not one.stays)


def preview_retention(plan: BackupPlan, keep: Mapping[str, Any] | None = None, now: datetime | None = None) -> Preview:
    """Return what `apply_retention` would do with the plan's backups now. `keep`: rules to try instead of the plan's own."""
    tried = dict(plan.keep if keep is None else keep)
    rules = keep_rules(plan, tried) if tried else None
    return Preview(tried, judge_backups(plan.uuid, rules, now or timezone.now()))


def _present_rules() -> dict[UUID, KeepRules]:
    plans = BackupPlan.objects.exclude(keep={}).only("uuid", "keep", "timezone")
    return {plan.uuid: keep_rules(plan, plan.keep) for plan in plans.order_by()}


def keep_rules(plan: BackupPlan, keep: Mapping[str, Any]) -> KeepRules:
    """Return keep rules as they judge the plan's backups."""
    return KeepRules(keep_policy(keep), ZoneInfo(plan.timezone))
