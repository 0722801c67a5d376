"""What a new installation lacks on its way to the first restore, as the front page shows it until all is done."""

from dataclasses import dataclass

from django.urls import reverse
from django.utils.translation import gettext as _

from jobs.health import FleetHealth
from storage.models import Endpoint


@dataclass(frozen=True, slots=True)
class Step:
    """A step. `link`: where it is done, of which `label` tells."""

    title: str
    text: str
    is_done: bool
    link: str
    label: str


def first_steps(health: FleetHealth, *, has_tenant: bool, has_agent: bool) -> list[Step]:
    """Return the steps from nothing to the first restore, in their order."""
    plan = health.plans[0].plan if health.plans else None
    record = max((judged.good for judged in health.plans if judged.good), default=None)
    plans = reverse("admin:jobs_backupplan_changelist")
    return [
        Step(
            _("Say where backups go"),
            _("An object store (Ceph, MinIO, AWS), or a directory that server and clients mount."),
            has_tenant or Endpoint.objects.exists(),
            reverse("admin:storage_endpoint_add"),
            _("Add an endpoint"),
        ),
        Step(
            _("Give the keys of a user there"),
            _("Name and quota are read from the store."),
            has_tenant,
            reverse("admin:storage_tenant_add"),
            _("Add a tenant"),
        ),
        Step(
            _("Join a host"),
            _("A join token shows the one command that puts the agent there."),
            has_agent,
            reverse("admin:clients_jointoken_add"),
            _("Issue a join token"),
        ),
        Step(
            _("Make a plan"),
            _("What is backed up, when, and how long it is held."),
            plan is not None,
            reverse("admin:jobs_backupplan_wizard"),
            _("Add a plan"),
        ),
        Step(
            _("Run it"),
            _("It need not wait for its schedule."),
            record is not None,
            reverse("admin:jobs_backupplan_change", args=[plan]) if plan else plans,
            _("Open the plan"),
        ),
        Step(
            _("Get a file back"),
            _("A backup is proven once something came back out of it."),
            False,
            reverse("admin:records_backuprecord_browse", args=[record]) if record else plans,
            _("Open the backup"),
        ),
    ]
