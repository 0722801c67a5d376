"""A believable fleet for the console's screenshots: nine hosts, three stores, a month of history, and what went wrong in it."""

import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from accounts.models import AuditEntry, User
from clients.models import AgentLogin, Client, JoinToken
from engine.archiver.streams import Stream
from engine.backends import open_store
from engine.commands.backup import backup
from engine.repository import Repository as EngineRepository
from jobs.models import BackupPlan, FleetDay
from records.maintenance import request_maintenance
from records.models import BackupRecord, Channel, Delivery, DrillRecord, Event, MaintenanceRun, RecoveryRecord, Rule, State
from storage.models import Endpoint, Repository, Tenant, UsageSample, Verification
from tests.factories import make_plan, make_record

DAYS = 30
GIB, TIB = 1 << 30, 1 << 40
# Of a tenant, in bytes a day.
GROWTH = 5 * GIB
QUOTA_IS_FULL = "The store refused to take a pack: 403 QuotaExceeded."

# Name, address, system, load, minutes since it was heard of.
HOSTS = [
    ("files-01", "10.20.0.11", "Debian GNU/Linux 13", 0.42, 0),
    ("mail-01", "10.20.0.12", "Debian GNU/Linux 13", 1.87, 0),
    ("erp-db-01", "10.20.0.21", "Ubuntu 24.04.3 LTS", 2.31, 0),
    ("shop-db-01", "10.20.0.22", "Ubuntu 24.04.3 LTS", 0.95, 0),
    ("web-01", "10.20.1.31", "Rocky Linux 9.6", 0.18, 0),
    ("web-02", "10.20.1.32", "Rocky Linux 9.6", 0.21, 0),
    ("git-01", "10.20.1.40", "Debian GNU/Linux 13", 0.66, 0),
    ("wiki-01", "10.20.1.41", "Debian GNU/Linux 12", 0.05, 190),
    ("cad-07", "10.20.2.57", "Ubuntu 22.04.5 LTS", 0.11, 0),
]
# Name, host, Quartz expression, what is read, GiB of it, tenant.
PLANS = [
    ("Shared files", "files-01", "0 0 1 * * ?", ["/srv/share"], 812, 0),
    ("Mailboxes", "mail-01", "0 30 1 * * ?", ["/var/vmail"], 346, 0),
    ("ERP database", "erp-db-01", "0 0 2 * * ?", ["/var/backups/erp"], 128, 0),
    ("Shop database", "shop-db-01", "0 0 */6 * * ?", ["/var/backups/shop"], 41, 1),
    ("Web sites", "web-01", "0 15 3 * * ?", ["/etc", "/var/www"], 22, 1),
    ("Web uploads", "web-02", "0 45 3 * * ?", ["/var/www/uploads"], 187, 1),
    ("Git repositories", "git-01", "0 0 4 * * ?", ["/srv/git"], 64, 0),
    ("Wiki", "wiki-01", "0 30 4 * * ?", ["/etc", "/var/lib/wiki"], 9, 0),
    ("CAD projects", "cad-07", "0 0 20 ? * MON-FRI", ["/home/projects"], 534, 1),
]
# What the one repository holds that can really be looked into: of as many days, and their table grows by a line each day.
REAL_DAYS = 6
TABLE = "/srv/share/finance/2026 budget.csv"
FILES = {
    TABLE: "month,planned,spent\n",
    "/srv/share/finance/invoices/2026-0417.txt": "Invoice 2026-0417\n",
    "/srv/share/personnel/handbook.md": "# Handbook\n\nWelcome.\n",
    "/srv/share/readme.txt": "The share of all departments.\n",
}


def make_demo(directory: Path, administrator: User) -> BackupRecord:
    """Fill the database and return the newest backup of a repository that can be looked into. `directory`: for its store."""
    chance = random.Random(7)
    now = timezone.now().replace(microsecond=0)
    clients = {name: _make_client(now, name, address, system, load, ago) for name, address, system, load, ago in HOSTS}
    tenants = _make_stores(now)
    plans = [
        _make_plan(directory, clients[host], tenants[tenant], name, cron, paths) for name, host, cron, paths, _size, tenant in PLANS
    ]
    _make_history(chance, now, plans)
    browsable = _make_browsable(plans[0])
    _make_use(chance, now)
    _make_upkeep(now, plans)
    _make_restores(now, plans, browsable)
    _make_events(now, plans)
    _make_settings(now, administrator)
    return browsable


def _make_client(now: datetime, name: str, address: str, system: str, load: float, minutes_ago: int) -> Client:
    parts = [int(part) for part in address.split(".")]
    checks = [
        {"name": "server", "status": "ok", "found": "it answers, and its certificate is good until 2027-03-02", "fix": ""},
        {"name": "clock", "status": "ok", "found": "0.2 s off the server's", "fix": ""},
        {"name": "rights", "status": "ok", "found": "may read every file and restore owners", "fix": ""},
        {"name": "commands", "status": "note", "found": "3 commands are allowed: pg_dump, mysqldump, lvm-snapshot", "fix": ""},
        {"name": "disk", "status": "ok", "found": "41 GB free for the agent's state", "fix": ""},
    ]
    if name == "cad-07":
        checks[2] |= {
            "status": "failed",
            "found": "may not read the files of others",
            "fix": "give the service CAP_DAC_READ_SEARCH (docs/agent.md)",
        }
    client = Client.objects.create(
        hostname=name,
        ipv4=int.from_bytes(bytes(parts)),
        os=system,
        version="0.1.0",
        protocol=5 if name != "wiki-01" else 2,
        load=load,
        last_seen=now - timedelta(minutes=minutes_ago),
        checks=checks,
        checked_at=now - timedelta(hours=5),
        allowed=["pg_dump", "mysqldump", "lvm-snapshot"],
    )
    AgentLogin.objects.create(client=client, token_hash=f"demo-{name}", broker_hash="demo", used_at=now)
    return client


def _make_stores(now: datetime) -> list[Tenant]:
    return [
        _make_tenant(now, "s3.fra.example.com:443", "Ceph, Frankfurt", "backup-office", int(1.9 * TIB), 4 * TIB),
        _make_tenant(now, "s3.ber.example.com:443", "Ceph, Berlin", "backup-shop", int(1.74 * TIB), 2 * TIB),
    ]


def _make_tenant(now: datetime, address: str, store: str, username: str, used: int, quota: int) -> Tenant:
    return Tenant.objects.create(
        endpoint=Endpoint.objects.create(address=address, https=True, type=Endpoint.Type.CEPH, display_name=store),
        username=username,
        access_key="demo",
        secret_key="demo",
        used=used,
        quota=quota,
        growth_per_day=GROWTH,
        full_at=now + timedelta(days=(quota - used) // GROWTH),
        refreshed_at=now - timedelta(minutes=11),
    )


def _make_plan(directory: Path, client: Client, tenant: Tenant, name: str, cron: str, paths: list[str]) -> BackupPlan:
    """Make a plan in a directory, which answers, and say that it is in the tenant's store, which does not exist."""
    data = json.dumps({"include": paths, "exclude": ["*.tmp", ".cache"]})
    fields = {"hold_type": BackupPlan.HoldType.DAYS, "hold_time": 90}
    plan = make_plan(directory / "store", client, backup_name=name, cron_expression=cron, backup_data=data, **fields)
    if name != PLANS[0][0]:
        Repository.objects.filter(pk=plan.repository_id).update(tenant=tenant, bucket="backups", prefix=client.hostname)
        BackupPlan.objects.filter(pk=plan.pk).update(tenant=tenant, bucket="backups")
    return BackupPlan.objects.get(pk=plan.pk)


def _make_history(chance: random.Random, now: datetime, plans: list[BackupPlan]) -> None:
    sizes = [size * GIB for *_rest, size, _tenant in PLANS]
    for back in range(DAYS, -1, -1):
        for plan, size in zip(plans, sizes, strict=True):
            if plan == plans[0] and back >= REAL_DAYS:
                continue
            began = now - timedelta(days=back, hours=7) + timedelta(minutes=11 * plans.index(plan), seconds=chance.randrange(60))
            added = int(size * chance.uniform(0.002, 0.02))
            files = size // (1 << 19)
            fields: dict[str, Any] = {
                "start_time": began,
                "end_time": began + timedelta(seconds=20 + size / GIB),
                "duration_s": 20 + size / GIB,
                "files_total": files,
                "files_new": files // 400,
                "files_changed": files // 250,
                "files_unmodified": files - files // 400 - files // 250,
                "bytes_read": size,
                "bytes_added": added,
                "bytes_stored": int(added * 0.58),
                "snapshot": f"{chance.getrandbits(256):064x}",
                "hold_until": began + timedelta(days=90),
            }
            drawn = chance.random()
            if plan.backup_name == "Web uploads" and back < 2:
                # What it was before the store ran out.
                fields |= _failure(QUOTA_IS_FULL)
            elif plan.backup_name == "Mailboxes" and drawn < 0.15:
                path = "/var/vmail/example.com/archive/.2019/cur"
                fields |= {"state": State.WARNINGS, "unreadable": [{"path": path, "reason": "Permission denied"}]}
            elif drawn < 0.015:
                fields |= {**_failure("The agent stopped answering, and its lease ran out."), "state": State.LOST}
            record = make_record(plan, **fields)
            BackupRecord.objects.filter(pk=record.pk).update(queued_at=began - timedelta(seconds=2))
    for plan, share in ((plans[8], 0.62), (plans[1], 0.17)):
        total = sizes[plans.index(plan)]
        done = {"bytes_done": int(total * share), "bytes_total": total, "files_done": 211_000, "files_total": 1_093_632}
        fields = {"start_time": now - timedelta(minutes=14), "progress": {**done, "rate": 141e6, "eta_s": 900}}
        make_record(plan, state=State.RUNNING, snapshot="", end_time=None, **fields)
    make_record(plans[3], state=State.QUEUED, snapshot="", end_time=None, start_time=None)
    trashed = make_record(plans[4], snapshot="1" * 64, start_time=now - timedelta(days=40), bytes_stored=3 * GIB)
    BackupRecord.objects.filter(pk=trashed.pk).update(deleted_at=now - timedelta(days=2))


def _failure(error: str) -> dict[str, Any]:
    return {"state": State.FAILED, "snapshot": "", "error": error, "bytes_added": None, "bytes_stored": None}


def _make_browsable(plan: BackupPlan) -> BackupRecord:
    """Back up files that are nowhere for each record of the plan, and return the newest."""
    repository = EngineRepository.open(open_store(plan.repository.location), plan.repository.password)
    records = list(BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.SUCCESS).order_by("pk"))
    for number, record in enumerate(records, 1):
        table = FILES[TABLE] + "".join(f"2026-{month:02},12000,{11_400 + 37 * month}\n" for month in range(1, number + 6))
        streams = [Stream(path.encode(), ("printf", "%s", text)) for path, text in (FILES | {TABLE: table}).items()]
        taken = backup(repository, [], host=plan.client.hostname, streams=streams, time=record.start_time)
        BackupRecord.objects.filter(pk=record.pk).update(snapshot=taken.snapshot_id)
    return BackupRecord.objects.get(pk=records[-1].pk)


def _make_use(chance: random.Random, now: datetime) -> None:
    Tenant.objects.filter(used=None).update(used=int(0.7 * TIB), refreshed_at=now)
    Endpoint.objects.filter(type=Endpoint.Type.DIRECTORY).update(display_name="NAS, server room")
    today = timezone.localdate()
    read = sum(size for *_rest, size, _tenant in PLANS) * GIB
    FleetDay.objects.bulk_create(
        FleetDay(day=today - timedelta(days=back), protected=read - back * 7 * GIB, stored=int(1.1 * TIB) - back * 9 * GIB)
        for back in range(DAYS)
    )
    samples = []
    for tenant in Tenant.objects.all():
        for back in range(DAYS):
            used = int((tenant.used or 0) - back * GROWTH * chance.uniform(0.9, 1.1))
            samples.append(UsageSample(tenant=tenant, day=today - timedelta(days=back), used=used))
    for number, repository in enumerate(Repository.objects.all(), 1):
        repository.used, repository.growth_per_day, repository.used_at = number * 90 * GIB, number * GIB // 3, now
        repository.save()
        for back in range(DAYS):
            samples.append(
                UsageSample(
                    tenant=repository.tenant,
                    repository=repository,
                    day=today - timedelta(days=back),
                    used=repository.used - back * repository.growth_per_day,
                )
            )
    UsageSample.objects.bulk_create(samples)


def _make_upkeep(now: datetime, plans: list[BackupPlan]) -> None:
    for number, plan in enumerate(plans):
        known = {
            "begun_at": now - timedelta(days=60),
            "due_at": now + timedelta(days=1),
            "structure_at": now - timedelta(hours=3 + number),
            "read_at": [int((now - timedelta(days=1 + part % 28)).timestamp()) for part in range(256)],
        }
        Verification.objects.update_or_create(repository=plan.repository, defaults=known)
    kinds = MaintenanceRun.Kind
    for number, plan in enumerate(plans):
        for kind, result in (
            (kinds.CHECK_DATA, {"packs": 412 + number, "bytes": 6 * GIB}),
            (kinds.PRUNE, {"packs_deleted": 31, "bytes_freed": 2 * GIB}),
        ):
            run = request_maintenance(plan.repository, kind)
            began = now - timedelta(hours=18 - number)
            done = {"state": State.SUCCESS, "start_time": began, "end_time": began + timedelta(minutes=6), "result": result}
            MaintenanceRun.objects.filter(pk=run.pk).update(queued_at=began, **done)
    for number, plan in enumerate(plans[:6]):
        began = now - timedelta(days=5 - number, hours=2)
        drill = DrillRecord.objects.create(
            plan_uuid=plan.uuid,
            plan_name=plan.backup_name,
            backup_record=BackupRecord.objects.filter(plan_uuid=plan.uuid, state=State.SUCCESS).first(),
            state=State.SUCCESS,
            start_time=began,
            end_time=began + timedelta(seconds=74),
            files=1200,
            of_files=1_600_000,
            compared=1200,
            bytes_restored=3 * GIB,
            mismatches=0,
            duration_s=74.2,
            age_s=9 * 3600,
        )
        DrillRecord.objects.filter(pk=drill.pk).update(queued_at=began)


def _make_restores(now: datetime, plans: list[BackupPlan], record: BackupRecord) -> None:
    paths = [["/srv/share/finance/2026 budget.csv"], ["/srv/share/personnel"], []]
    for number, include in enumerate(paths):
        began = now - timedelta(days=9 - number * 4, hours=3)
        row = RecoveryRecord.objects.create(
            client=plans[0].client,
            backup_record=record,
            backup_record_detail={"id": record.pk, "backup_detail": record.backup_detail},
            recovery_data=json.dumps({"destination": "/srv/restored", "include": include, "overwrite": "if-changed"}),
            state=State.SUCCESS,
            start_time=began,
            end_time=began + timedelta(seconds=41),
            duration_s=41.0,
            files_restored=1 + number * 812,
            files_skipped=0,
            files_verified=1 + number * 812,
            bytes_restored=(1 + number * 812) * 90_000,
        )
        RecoveryRecord.objects.filter(pk=row.pk).update(queued_at=began)


def _make_events(now: datetime, plans: list[BackupPlan]) -> None:
    level, topic, occasion = Event.Level, Event.Topic, Event.Occasion
    ended = [plan for plan in plans if plan != plans[5]]
    said: list[tuple[int, int, str, str, BackupPlan | None, str]] = [
        (level.SUCCESS, topic.BACKUP, f"Backup {plan} succeeded", "", plan, "") for plan in ended
    ]
    full = "Tenant backup-shop @ Ceph, Berlin: 87 % of the quota is used"
    said += [
        (level.ERROR, topic.BACKUP, f"Backup {plans[5]} failed", QUOTA_IS_FULL, plans[5], occasion.FAILED),
        (level.WARNING, topic.STORAGE, full, "At this pace it is full in 53 days.", None, occasion.QUOTA),
        (level.WARNING, topic.CLIENT, "Client wiki-01 does not answer", "Last heard of at 12:28.", None, occasion.CLIENT_OFFLINE),
        (level.INFO, topic.ACCOUNT, "administrator logged in", "", None, ""),
    ]
    for number, (grade, about, title, message, plan, what) in enumerate(said):
        names: dict[str, Any] = {}
        if plan:
            record = BackupRecord.objects.filter(plan_uuid=plan.uuid, end_time__isnull=False).latest("pk")
            names = {"plan_uuid": plan.uuid, "job": record.job}
        event = Event.objects.create(level=grade, topic=about, title=title, message=message, occasion=what, **names)
        Event.objects.filter(pk=event.pk).update(time=now - timedelta(minutes=9 * (len(said) - number)))


def _make_settings(now: datetime, administrator: User) -> None:
    for name, role in (("li.wei", User.Role.OPERATOR), ("a.novak", User.Role.VIEWER)):
        User.objects.create_user(name, role=role, is_staff=True, last_login=now - timedelta(hours=7))
    mail = Channel.objects.create(name="On call, by mail", address="mailtos://user:password@mail.example.com", language="en")
    hook = {"address": "https://chat.example.com/hook", "kind": Channel.Kind.WEBHOOK}
    chat = Channel.objects.create(name="企业微信群", language="zh-hans", **hook)
    rule = Rule.objects.create(name="What needs somebody at once", occasions=["failed", "missed", "drill-failed", "check-failed"])
    rule.channels.set([mail, chat])
    weekly = Rule.objects.create(name="Stores, once a day", occasions=["quota", "store-unreadable"], digest=Rule.Digest.DAILY)
    weekly.channels.set([mail])
    for event in Event.objects.filter(occasion="failed"):
        for channel in (mail, chat):
            Delivery.objects.create(channel=channel, rule=rule, event=event, state="told", due_at=now, told_at=now, attempts=1)
    JoinToken.issue(Client.objects.earliest("pk"), created_by=administrator.username)
    for actor, via, action, outcome, status, name in (
        ("administrator", "console", "jobs.backupplan.change", "done", 302, "Mailboxes"),
        ("li.wei", "api", "backup.run", "done", 200, "ERP database"),
        ("a.novak", "api", "backup.delete", "refused", 403, "Shop database"),
        ("li.wei", "console", "records.recoveryrecord.create", "done", 302, "Shared files"),
    ):
        touched = [{"model": "jobs.backupplan", "id": 1, "name": name, "change": "changed", "fields": ["cron_expression"]}]
        AuditEntry(actor=actor, address="10.20.9.4", via=via, action=action, outcome=outcome, status=status, touched=touched).save()
