"""Records of snapshots that no agent reported, and the truth about records whose snapshot is gone.

A repository is compared with its records. Snapshots without a record become records: those of a repository that was adopted,
and those whose agent died between the snapshot and its report. They are held for ever, since nobody has said how long. A record
whose snapshot somebody else removed says so, and cannot be restored any more. All of it may be done again and again.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.db import transaction
from django.db.models import F, Min, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from clients.models import Client
from clients.serializers import NestedClientSerializer
from engine.errors import DataDamaged, EngineError, RepositoryNotFound, SnapshotNotFound
from engine.repository import Repository as EngineRepository
from engine.snapshot import Snapshot, load_snapshot
from engine.store import FileKind
from records.events import emit
from records.models import ACTIVE_STATES, RESTORABLE_STATES, BackupRecord, Event, MaintenanceRun, RecoveryRecord, State
from storage.adopting import register_repository
from storage.models import Repository, Tenant
from storage.repositories import open_with, repository_store
from storage.serializers import NestedTenantSerializer

log = logging.getLogger(__name__)

# Tags of agents' snapshots, and of what the server itself keeps in repositories.
PLAN_TAG, SERVER_TAG = "plan-", "backupcenter-"
# What ended so lately is not looked for: some stores list late what was written.
SETTLING = timedelta(minutes=10)
CREATED_AT_ONCE = 500
NAMED = 20

Details = Mapping[UUID, dict[str, Any]]
# Who knows of snapshots in a repository that are the server's own: they need not be read to see that.
OWN_SNAPSHOTS: list[Callable[[Repository], set[str]]] = []


@dataclass(slots=True)
class Comparison:
    """What comparing a repository with its records found: record numbers, and names of snapshots that cannot be read."""

    adopted: list[int] = field(default_factory=list)
    vanished: list[int] = field(default_factory=list)
    returned: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def adopt_repository(
    tenant: Tenant, bucket: str, prefix: str, password: str, client: Client | None = None
) -> tuple[Repository, bool, Comparison]:
    """Register a repository that exists and make records of its snapshots; return it, whether it is new, and what was found.

    `client`: whose all of it is; without one a snapshot is its whose name the snapshot says, if just one has it. Raises
    EngineError, Conflict.
    """
    repository, is_new = register_repository(tenant, bucket, prefix, password)
    return repository, is_new, sync_records(repository, client=client)


def sync_all_records(repositories: Iterable[Repository] | None = None) -> dict[Repository, Comparison | EngineError]:
    """Compare repositories, all if none are given, with their records; an event names those that cannot be read."""
    rows = Repository.objects.exclude(repository_id="").select_related("tenant__endpoint").order_by("pk")
    found: dict[Repository, Comparison | EngineError] = {}
    for repository in rows if repositories is None else repositories:
        try:
            found[repository] = sync_records(repository)
        except EngineError as error:
            log.warning("repository=%d not compared with its records: %s", repository.pk, error)
            found[repository] = error
    failed = [f"{repository}: {error}" for repository, error in found.items() if isinstance(error, EngineError)]
    if failed:
        with override(settings.LANGUAGE_CODE):
            text = ngettext(
                "%(count)d repository cannot be compared with its records",
                "%(count)d repositories cannot be compared with their records",
                len(failed),
            )  # fmt: skip
            emit(Event.Level.WARNING, Event.Topic.STORAGE, text % {"count": len(failed)}, "\n".join(failed[:NAMED]))
    return found


def sync_records(repository: Repository, *, client: Client | None = None, details: Details | None = None) -> Comparison:
    """Compare the repository with its records and mend the records. `details`: of plans that no record tells of.

    Raises EngineError.
    """
    store = repository_store(repository)
    found = Comparison()
    try:
        # Before the store is asked: what is recorded by now has been written by then.
        expected = dict(_expected(repository).values_list("snapshot", "pk"))
        missing_before = dict(_vanished(repository).values_list("snapshot", "pk"))
        if not store.exists(FileKind.CONFIG, ""):
            # Of a directory that is not mounted a list would be empty.
            raise RepositoryNotFound(_("There is no repository at %(location)s.") % {"location": repository.location})
        present = {name for name, _size in store.list(FileKind.SNAPSHOTS)}
        found.vanished = [pk for name, pk in expected.items() if name not in present]
        found.returned = [pk for name, pk in missing_before.items() if name in present]
        ours = set[str]().union(*(snapshots_of(repository) for snapshots_of in OWN_SNAPSHOTS))
        unknown = present - _known(repository) - _being_forgotten(repository) - ours
        if unknown:
            opened = open_with(store, repository)
            snapshots = [*_load(opened, unknown, found.unreadable)]
            found.adopted = _adopt(repository, snapshots, client, details or {})
    finally:
        store.close()
    now = timezone.now()
    with transaction.atomic(), override(settings.LANGUAGE_CODE):
        BackupRecord.objects.filter(pk__in=found.vanished).update(vanished_at=now)
        BackupRecord._base_manager.filter(pk__in=found.returned).update(vanished_at=None)
        _drop_second_records(repository)
        _tell(repository, found)
    return found


def _expected(repository: Repository) -> Any:
    rows = BackupRecord.objects.filter(repository=repository, state__in=RESTORABLE_STATES, vanished_at=None)
    return rows.exclude(snapshot="").filter(Q(end_time=None) | Q(end_time__lt=timezone.now() - SETTLING))


def _vanished(repository: Repository) -> Any:
    return BackupRecord._base_manager.filter(repository=repository, vanished_at__isnull=False)


def _known(repository: Repository) -> set[str]:
    return set(BackupRecord._base_manager.filter(repository=repository).values_list("snapshot", flat=True))


def _being_forgotten(repository: Repository) -> set[str]:
    """Return the snapshots whose records were deleted, and which are still to go, if need be with a later run."""
    forgetting = [MaintenanceRun.Kind.FORGET, MaintenanceRun.Kind.MAINTENANCE]
    runs = MaintenanceRun.objects.filter(repository=repository, kind__in=forgetting).exclude(state=State.SUCCESS)
    return {str(name) for run in runs for name in run.arguments.get("snapshots", [])}


def _load(opened: EngineRepository, names: Iterable[str], unreadable: list[str]) -> Iterator[Snapshot]:
    """Yield the snapshots of hosts, the oldest first."""
    snapshots = []
    for name in names:
        try:
            snapshots.append(load_snapshot(opened, name))
        except DataDamaged:
            unreadable.append(name)
        except SnapshotNotFound:
            continue
    for snapshot in sorted(snapshots, key=lambda each: (each.time, each.id)):
        if not any(tag.startswith(SERVER_TAG) for tag in snapshot.tags):
            yield snapshot


def _adopt(repository: Repository, snapshots: list[Snapshot], client: Client | None, details: Details) -> list[int]:
    """Make the records, but of what an agent may be about to report."""
    known_details = {**_details_of(filter(None, map(_plan_of, snapshots))), **details}
    clients = _Clients()
    with transaction.atomic():
        at_work = dict(
            BackupRecord.objects.filter(state__in=ACTIVE_STATES).order_by().values_list("plan_uuid").annotate(Min("queued_at"))
        )
        # After that: what was at work has ended by now, or is left alone.
        known = _known(repository)
        rows = []
        for snapshot in snapshots:
            plan = _plan_of(snapshot)
            begun = at_work.get(plan) if plan else None
            if snapshot.id in known or (begun is not None and snapshot.time >= begun.replace(microsecond=0)):
                continue
            detail = known_details.get(plan) if plan else None
            whose = client or clients.of(snapshot.hostname, detail)
            rows.append(_record(repository, snapshot, whose, detail))
        made = BackupRecord.objects.bulk_create(rows, batch_size=CREATED_AT_ONCE)
        keys = [row.pk for row in made]
        # When they are made is of no interest; lists are narrowed down by this time.
        for at in range(0, len(keys), CREATED_AT_ONCE):
            BackupRecord.objects.filter(pk__in=keys[at : at + CREATED_AT_ONCE]).update(queued_at=F("start_time"))
    return keys


def _plan_of(snapshot: Snapshot) -> UUID | None:
    """Return the plan that an agent's snapshot was made by."""
    for tag in snapshot.tags:
        if tag.startswith(PLAN_TAG):
            try:
                return UUID(tag.removeprefix(PLAN_TAG))
            except ValueError:
                continue
    return None


def _details_of(plans: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return of each plan what its newest record says that it was."""
    rows = BackupRecord.objects.filter(plan_uuid__in=set(plans)).order_by("pk")
    return dict(rows.values_list("plan_uuid", "backup_detail"))


class _Clients:
    """All clients, by what snapshots and plans say of them."""

    def __init__(self) -> None:
        self._by_number = {client.pk: client for client in Client.objects.all()}
        names = Counter(client.hostname for client in self._by_number.values())
        self._by_name = {client.hostname: client for client in self._by_number.values() if names[client.hostname] == 1}

    def of(self, hostname: str, detail: dict[str, Any] | None) -> Client | None:
        """Return the client of the plan, else the only one of this name."""
        number: int = ((detail or {}).get("client") or {}).get("id") or 0
        return self._by_number.get(number) or self._by_name.get(hostname)


def _record(repository: Repository, snapshot: Snapshot, client: Client | None, detail: dict[str, Any] | None) -> BackupRecord:
    summary = snapshot.summary
    start = summary.backup_start if summary else snapshot.time
    end = max(summary.backup_end, start) if summary else snapshot.time
    plan = detail or _pseudo_plan(repository, snapshot, client)
    record = BackupRecord(
        client=client,
        plan_uuid=UUID(plan["uuid"]),
        plan_name=plan["backup_name"],
        # Held for ever, whatever the plan has said of those that its agent reported.
        backup_detail={**plan, "hold_type": 0, "hold_time": 0},
        repository=repository,
        state=State.WARNINGS if snapshot.is_incomplete else State.SUCCESS,
        snapshot=snapshot.id,
        start_time=start.astimezone(UTC),
        end_time=end.astimezone(UTC),
        adopted_at=timezone.now(),
    )
    if summary:
        record.duration_s = (end - start).total_seconds()
        record.files_total, record.files_new = summary.total_files_processed, summary.files_new
        record.files_changed, record.files_unmodified = summary.files_changed, summary.files_unmodified
        record.bytes_read, record.bytes_added = summary.total_bytes_processed, summary.data_added
        record.bytes_stored = summary.data_added_packed
    return record


def _pseudo_plan(repository: Repository, snapshot: Snapshot, client: Client | None) -> dict[str, Any]:
    """Return what takes the place of a plan: the same for all snapshots of a host's paths, so that they stand together."""
    plan = _plan_of(snapshot)
    # Lone halves of characters, which stand for bytes that are no text, do not fit a database.
    paths = [path.encode("utf-8", "replace").decode() for path in snapshot.paths]
    namespace = UUID(repository.repository_id[:32])
    group = uuid5(namespace, json.dumps([snapshot.hostname, sorted(paths)]))
    return {
        "uuid": str(plan or group),
        "backup_name": f"{snapshot.hostname}: {', '.join(paths)}".encode("utf-8", "replace").decode()[:255],
        "backup_group": 0,
        "client": dict(NestedClientSerializer(client).data) if client else None,
        "tenant": json.loads(json.dumps(NestedTenantSerializer(repository.tenant).data)),
        "bucket": repository.bucket,
        "cron_expression": None,
        "start_time": int(snapshot.time.timestamp()),
        "end_time": None,
        "backup_data": json.dumps({"include": paths, "exclude": list(snapshot.excludes)}),
        "timezone": "UTC",
        "repository": repository.location,
    }


def _drop_second_records(repository: Repository) -> None:
    """Drop adopted records of snapshots that an agent, lost for a while, has reported after all; the snapshots stay."""
    adopted = BackupRecord.objects.filter(repository=repository, adopted_at__isnull=False, legal_hold_at=None)
    reported = BackupRecord._base_manager.filter(repository=repository, adopted_at=None).exclude(snapshot="")
    second = adopted.filter(snapshot__in=reported.values("snapshot"))
    in_use = RecoveryRecord.objects.filter(state__in=ACTIVE_STATES, backup_record__in=second)
    keys = list(second.exclude(pk__in=in_use.values("backup_record")).values_list("pk", flat=True))
    BackupRecord.objects.filter(pk__in=keys).delete()


def _tell(repository: Repository, found: Comparison) -> None:
    names = {"repository": repository}
    log.info(
        "repository=%d adopted=%d vanished=%d returned=%d unreadable=%d",
        repository.pk, len(found.adopted), len(found.vanished), len(found.returned), len(found.unreadable),
    )  # fmt: skip
    if found.vanished:
        text = ngettext(
            "%(count)d backup is missing from repository %(repository)s",
            "%(count)d backups are missing from repository %(repository)s",
            len(found.vanished),
        )  # fmt: skip
        reason = _("Somebody else than this server removed the snapshots of: %(records)s.") % {"records": _numbers(found.vanished)}
        emit(Event.Level.ERROR, Event.Topic.STORAGE, text % {**names, "count": len(found.vanished)}, reason)
    if found.returned:
        text = _("Backups that were missing are in repository %(repository)s again")
        emit(Event.Level.SUCCESS, Event.Topic.STORAGE, text % names, _numbers(found.returned))
    if found.adopted:
        text = ngettext(
            "%(count)d backup that was not known was found in repository %(repository)s",
            "%(count)d backups that were not known were found in repository %(repository)s",
            len(found.adopted),
        )  # fmt: skip
        emit(Event.Level.INFO, Event.Topic.STORAGE, text % {**names, "count": len(found.adopted)}, _numbers(found.adopted))
    if found.unreadable:
        text = _("Snapshots in repository %(repository)s cannot be read")
        emit(Event.Level.ERROR, Event.Topic.STORAGE, text % names, ", ".join(found.unreadable[:NAMED]))


def _numbers(keys: list[int]) -> str:
    shown = ", ".join(f"#{key}" for key in keys[:NAMED])
    return shown if len(keys) <= NAMED else f"{shown}, …"
