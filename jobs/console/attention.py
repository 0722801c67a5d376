"""What needs a person, each with what to do about it: the part of the front page that is read at two in the morning."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby, islice

from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timesince import timesince
from django.utils.translation import gettext as _

from clients.broker import AWAY, Sharing, sharing_found
from clients.models import Client
from clients.presence import heard_since
from jobs.health import FleetHealth, Health, PlanHealth
from jobs.models import BackupPlan
from jobs.ownbackup.keeping import OVERDUE
from records.models import BackupRecord, MaintenanceRun, State
from storage.growth import WARNED_AT, used_percent
from storage.models import Endpoint, Tenant

SHOWN = 5
EXPIRES_SOON = timedelta(days=30)
CHECKED = (MaintenanceRun.Kind.CHECK, MaintenanceRun.Kind.CHECK_DATA, MaintenanceRun.Kind.PRUNE, MaintenanceRun.Kind.DRILL)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing to do. `grave`: data is not protected now. `act`: where a button posts to, of which `label` says what it does."""

    title: str
    text: str
    link: str
    grave: bool = False
    label: str = ""
    act: str = ""


def worst_plans(health: FleetHealth) -> list[PlanHealth]:
    """Return the plans that need somebody most, of each kind the newest few."""
    return [plan for _kind, group in groupby(health.unwell, lambda plan: plan.health) for plan in islice(group, SHOWN)]


def needs(worst: list[PlanHealth], plans: dict[int, BackupPlan], tenants: Collection[Tenant]) -> list[Need]:
    """Return what needs somebody, the gravest first, of each kind the newest few.

    `worst`: see `worst_plans`; `plans`: with at least these, by their keys.
    """
    endpoints = {tenant.endpoint_id: tenant.endpoint for tenant in tenants}.values()
    runs = _runs()
    # Once there is something in it that somebody would miss.
    own = _own_backup(runs) if plans else ()
    asked = (_plans(worst, plans), own, _tenants(tenants), _authorities(endpoints), _checks(runs), _broker(), _clients())
    return [need for kind in asked for need in kind]


def _plans(worst: list[PlanHealth], plans: dict[int, BackupPlan]) -> Iterator[Need]:
    sentences = {
        Health.FAILING: _("%(plan)s fails"),
        Health.NEVER: _("%(plan)s has no backup yet"),
        Health.LATE: _("%(plan)s is late"),
    }
    failed = [judged.ended for judged in worst if judged.health == Health.FAILING]
    failures = BackupRecord.objects.only("error").in_bulk(failed)
    for judged in worst:
        # It may have been deleted at this moment.
        if (plan := plans.get(judged.plan)) is None:
            continue
        failure = failures.get(judged.ended) if judged.ended else None
        link = reverse("admin:jobs_backupplan_change", args=[plan.pk])
        if failure is not None:
            link = reverse("admin:records_backuprecord_change", args=[failure.pk])
        yield Need(
            title=sentences[judged.health] % {"plan": plan.backup_name},
            text=(failure.error if failure else "") or _("Client: %(client)s") % {"client": plan.client},
            link=link,
            grave=judged.health != Health.LATE,
            label=_("Run now"),
            act=reverse("admin:jobs_backupplan_run", args=[plan.pk]),
        )


def _own_backup(runs: Iterable[MaintenanceRun]) -> Iterator[Need]:
    own = [run for run in runs if run.kind == MaintenanceRun.Kind.OWN_BACKUP]
    good = next((run for run in own if run.state == State.SUCCESS), None)
    if good is not None and good.end_time is not None and good.end_time > timezone.now() - OVERDUE:
        return
    link = reverse("admin:jobs_ownbackup_changelist")
    if not own:
        text = _("Without it plans, accounts and history are lost with the server. Choose where it is kept.")
        yield Need(title=_("The server's own database is not backed up"), text=text, link=link)
    else:
        text = own[0].error or _("Is a maintenance worker running?")
        title = _("The server's own database has had no new backup for more than a day")
        yield Need(title=title, text=text, link=link, grave=True)


def _tenants(tenants: Iterable[Tenant]) -> Iterator[Need]:
    for tenant in tenants:
        link = reverse("admin:storage_tenant_change", args=[tenant.pk])
        if tenant.refresh_error:
            title = _("Tenant %(tenant)s cannot be read from its store") % {"tenant": tenant}
            yield Need(title=title, text=tenant.refresh_error, link=link, grave=True)
        elif (percent := used_percent(tenant) or 0) >= min(WARNED_AT):
            share = {"tenant": tenant, "percent": percent}
            text = _("Raise the quota in the store, or let backups go sooner.")
            yield Need(title=_("Tenant %(tenant)s: %(percent)d %% of the quota is used") % share, text=text, link=link)


def _authorities(endpoints: Iterable[Endpoint]) -> Iterator[Need]:
    soon = timezone.now() + EXPIRES_SOON
    for endpoint in endpoints:
        end = endpoint.authorities_end
        if end is not None and end < soon:
            title = _("An authority of store %(store)s expires on %(day)s") % {"store": endpoint, "day": date_format(end)}
            text = _("After it nothing can be backed up there: add the new certificate to the endpoint in time.")
            link = reverse("admin:storage_endpoint_change", args=[endpoint.pk])
            yield Need(title=title, text=text, link=link, grave=end < timezone.now())


def _runs() -> list[MaintenanceRun]:
    """Return the runs on repositories that somebody is to know of if they failed, of the last 30 days, the newest first."""
    since = timezone.now() - timedelta(days=30)
    runs = MaintenanceRun.objects.filter(kind__in=[*CHECKED, MaintenanceRun.Kind.OWN_BACKUP], end_time__gte=since)
    return list(runs.select_related("repository__tenant__endpoint").order_by("-pk"))


def _checks(runs: Iterable[MaintenanceRun]) -> Iterator[Need]:
    """The repositories whose newest check of its kind found something, or could not be done."""
    newest: dict[tuple[int, str], MaintenanceRun] = {}
    for run in runs:
        if run.kind in CHECKED:
            newest.setdefault((run.repository_id, run.kind), run)
    failed = [run for run in newest.values() if run.state in (State.FAILED, State.LOST)]
    for run in failed[:SHOWN]:
        title = _("%(kind)s of repository %(repository)s failed") % {"kind": run.get_kind_display(), "repository": run.repository}
        yield Need(title=title, text=run.error, link=reverse("admin:records_maintenancerun_change", args=[run.pk]), grave=True)


def _broker() -> Iterator[Need]:
    try:
        sharing = sharing_found()
    except AWAY:
        text = _("No job starts until it does; what runs goes on. Is its service up, and is BACKUPCENTER_REDIS_URL right?")
        yield Need(title=_("Redis does not answer"), text=text, link=reverse("admin:records_event_changelist"), grave=True)
        return
    if sharing is not Sharing.NOT:
        title = _("All agents share one login to the broker")
        text = _("%(reason)s. A stolen host could read other clients' queues; docs/operating.md says what Redis needs.")
        yield Need(title=title, text=text % {"reason": sharing.label}, link=reverse("admin:clients_client_changelist"), grave=True)


def _clients() -> Iterator[Need]:
    silent = Client.objects.filter(Q(last_seen=None) | Q(last_seen__lt=heard_since()))
    for client in silent.order_by(F("last_seen").desc(nulls_last=True), "-pk")[: 2 * SHOWN]:
        if client.last_seen is None:
            yield Need(
                title=_("Client %(client)s has no agent yet") % {"client": client},
                text=_("Issue a join token for it, and run the command that is shown on the host."),
                link=reverse("admin:clients_client_changelist"),
            )
        else:
            ago = {"time": timesince(client.last_seen)}
            yield Need(
                title=_("Client %(client)s does not answer") % {"client": client},
                text=_("Last heard of %(time)s ago. Is the host up, and does its agent run?") % ago,
                link=reverse("admin:clients_client_change", args=[client.pk]),
            )
