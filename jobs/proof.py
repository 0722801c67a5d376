"""What is proven of a plan: when its newest backup was last restored, how long that took, how old it was."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from jobs.models import BackupPlan
from records.models import RESTORABLE_STATES


class ProofState(models.TextChoices):
    NONE = "none", _("not proven yet")
    PROVEN = "proven", _("proven restorable")
    FAILED = "failed", _("the last drill failed")


@dataclass(frozen=True, slots=True)
class Proof:
    """The last drill that succeeded. `duration_s`: its measured recovery time; `age_s`: how old the backup was then."""

    state: str
    at: datetime | None
    duration_s: float | None
    age_s: float | None


def proof_of(plan: BackupPlan) -> Proof:
    """Return the plan's proof; one query unless the plan came from `with_proof`."""
    row: Any = plan if hasattr(plan, "drilled_state") else BackupPlan.objects.with_proof().get(pk=plan.pk)
    state = ProofState.NONE
    if row.drilled_state is not None:
        state = ProofState.PROVEN if row.drilled_state in RESTORABLE_STATES else ProofState.FAILED
    return Proof(str(state), row.proven_start_time, row.proven_duration_s, row.proven_age_s)
