"""Whether a plan's next backup fits into its tenant's quota, as far as that is known before it starts."""

from dataclasses import dataclass
from statistics import median

from django.db.models import Sum
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _

from jobs.models import BackupPlan
from records.models import RESTORABLE_STATES, BackupRecord

# The runs that the next one is judged by.
JUDGED_BY = 10


@dataclass(frozen=True, slots=True)
class PlanUsage:
    """In bytes: `stored` by the plan's backups that there are, `expected` of the next run (None: not known), what is `left`.

    `stored` counts what each run has added to the repository; what several plans have alike is the first one's.
    """

    stored: int
    expected: int | None
    left: int | None


def plan_usage(plan: BackupPlan) -> PlanUsage:
    """Return what the plan's backups take, and what is known of the next one."""
    stored = BackupRecord.objects.filter(plan_uuid=plan.uuid).aggregate(sum=Sum("bytes_stored"))["sum"]
    return PlanUsage(stored or 0, expected_bytes(plan), left_of_quota(plan))


def expected_bytes(plan: BackupPlan) -> int | None:
    """Return how many bytes the plan's next run is expected to store: the median of its last runs but the very first.

    None: it has not run often enough. The first run stores everything, and says nothing of the others.
    """
    runs = BackupRecord._base_manager.filter(plan_uuid=plan.uuid, state__in=RESTORABLE_STATES, bytes_stored__isnull=False)
    newest = [size or 0 for size in runs.order_by("-pk").values_list("bytes_stored", flat=True)[: JUDGED_BY + 1]]
    later = newest[:JUDGED_BY] if len(newest) > JUDGED_BY else newest[:-1]
    return round(median(later)) if later else None


def left_of_quota(plan: BackupPlan) -> int | None:
    """Return how many bytes the plan's tenant may still store; None: it has no quota, or its store does not say now."""
    tenant = plan.tenant
    if tenant.quota is None or tenant.used is None or tenant.refresh_error:
        return None
    return max(0, tenant.quota - tenant.used)


def quota_problem(plan: BackupPlan) -> str | None:
    """Return why the plan's next run would not fit, as sentences; None: it fits, or nobody knows."""
    left = left_of_quota(plan)
    if left is None:
        return None
    names = {"tenant": plan.tenant, "quota": filesizeformat(plan.tenant.quota or 0)}
    if left == 0:
        text = _("The quota of tenant %(tenant)s, %(quota)s, is full. Raise it in the store, or let backups go sooner.")
        return text % names
    expected = expected_bytes(plan)
    if expected is None or expected <= left:
        return None
    text = _(
        "It would not fit: runs of this plan store about %(expected)s, and %(left)s are left of the quota of tenant %(tenant)s, "
        "%(quota)s. Raise it in the store, or let backups go sooner."
    )
    return text % {**names, "expected": filesizeformat(expected), "left": filesizeformat(left)}
