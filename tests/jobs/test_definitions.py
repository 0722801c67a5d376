"""Plans stand in the repositories they back up into, so that a total loss takes neither them nor what was changed since the kit."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clients.models import Client
from engine.archiver.streams import Stream
from engine.commands.backup import backup
from engine.repository import Repository as EngineRepository
from engine.snapshot import find_snapshot, iter_snapshots
from jobs.definitions import keeping, reading
from jobs.definitions.describing import PATH, PLAN_FIELDS, SIGNATURE_PATH, TAG, Definitions, describe_plans, sign
from jobs.definitions.keeping import KEPT, changed_repositories, request_changed_plans
from jobs.definitions.reading import find_definitions
from jobs.models import BackupPlan, KeptPlans, PlanPing, SigningKey
from jobs.planning import change_plan, create_plan, delete_plan, pause_plan
from jobs.recoverykit import make_kit, open_kit
from jobs.signing import public_key
from jobs.tasks import keep_plans
from records.adopting import sync_records
from records.maintenance import run_maintenance
from records.models import BackupRecord, Event, MaintenanceRun, State
from storage.models import Endpoint, Repository, Tenant
from storage.repositories import open_with, repository_store
from storage.tenants import add_tenant
from tests.factories import START, make_client, make_plan

pytestmark = pytest.mark.django_db
Kind = MaintenanceRun.Kind
PASSPHRASE = "twelve letters and more"


def opened(row: Repository) -> EngineRepository:
    return open_with(repository_store(row), row)


def run_all() -> list[MaintenanceRun]:
    """Do what is queued, as a maintenance worker does, and return it."""
    done = []
    while run := MaintenanceRun.objects.filter(state=State.QUEUED).order_by("pk").first():
        run_maintenance(run.pk, run.attempt)
        run.refresh_from_db()
        done.append(run)
    return done


def write() -> list[MaintenanceRun]:
    request_changed_plans()
    return run_all()


def ours(row: Repository) -> list[str]:
    """Return the ids of the snapshots of definitions, the oldest first."""
    found = [snapshot for snapshot in iter_snapshots(opened(row)) if TAG in snapshot.tags]
    return [snapshot.id for snapshot in sorted(found, key=lambda each: each.time)]


def save(plan: BackupPlan, source: Path) -> None:
    """Make a backup of the plan, as its agent does."""
    backup(opened(plan.repository), [str(source)], host=plan.client.hostname, tags=[f"plan-{plan.uuid}"])


def plant(row: Repository, text: str, signature: str) -> None:
    """Put something into the repository as if it were the server's, as a host can that writes into it."""
    streams = []
    for path, content in ((PATH, text), (SIGNATURE_PATH, signature)):
        read, write = os.pipe()
        os.write(write, content.encode())
        os.close(write)
        streams.append(Stream(path.encode(), descriptor=read))
    backup(opened(row), [], streams=streams, host="host", tags=[TAG])


def forget_everything() -> None:
    """Lose the database."""
    for plan in BackupPlan.objects.all():
        delete_plan(plan)
    for model in (BackupRecord, KeptPlans, MaintenanceRun, Repository, Tenant, Endpoint, Client, SigningKey):
        model.objects.all().delete()


class Kit:
    """A recovery kit, and `rebuild` with it."""

    def __init__(self, directory: Path) -> None:
        self.path, self.secret = directory / "kit.html", directory / "passphrase"
        self.path.write_text(make_kit(PASSPHRASE))
        self.secret.write_text(PASSPHRASE)
        self.said, self.complained = "", ""

    def rebuild(self) -> str:
        out, err = StringIO(), StringIO()
        try:
            call_command("rebuild", "--kit", str(self.path), "--passphrase-file", str(self.secret), stdout=out, stderr=err)
        finally:
            self.said, self.complained = out.getvalue(), err.getvalue()
        return self.said


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def plan(tmp_path: Path) -> BackupPlan:
    (tmp_path / "store").mkdir()
    return make_plan(tmp_path / "store", backup_name="nightly", keep={"last": 3})


def fields_of(plan: BackupPlan) -> dict[str, object]:
    """Return all that is to be the same after a loss."""
    left_out = {"id", "tenant", "repository", "periodic_task", "paused", "next_fire_at", "fired_at", "stale_since", "created_at"}
    return {field.name: getattr(plan, field.attname) for field in BackupPlan._meta.concrete_fields if field.name not in left_out}


def test_a_change_makes_one_snapshot_and_none_makes_none(plan: BackupPlan) -> None:
    (run,) = write()
    assert (run.kind, run.state, run.error, run.result["plans"]) == (Kind.PLANS, State.SUCCESS, "", 1)
    assert ours(plan.repository) == [run.result["snapshot"]] == KeptPlans.objects.get().snapshots
    assert write() == []
    change_plan(plan, backup_name="weekly")
    change_plan(plan, cron_expression="0 0 4 * * ?")
    assert len(write()) == 1
    assert write() == []
    assert len(ours(plan.repository)) == 2
    pause_plan(plan)
    Client.objects.update(hostname="renamed")
    assert len(write()) == 1
    assert not Event.objects.filter(topic=Event.Topic.MAINTENANCE).exists(), "that it goes well is no news"


def test_two_that_are_asked_for_at_once_write_once(plan: BackupPlan) -> None:
    for _each in range(2):
        keeping.request_writing(plan.repository)
    assert [run.result.get("is_unchanged") for run in run_all()] == [None, True]
    assert len(ours(plan.repository)) == 1


def test_a_plan_that_was_deleted_is_gone_from_its_repository_too(plan: BackupPlan) -> None:
    write()
    delete_plan(plan)
    assert [run.result["plans"] for run in write()] == [0]
    assert write() == []


def test_the_newest_few_stay(plan: BackupPlan) -> None:
    for number in range(KEPT + 2):
        change_plan(plan, backup_name=f"name {number}")
        runs = write()
        assert all(run.state == State.SUCCESS for run in runs), runs
    assert ours(plan.repository) == KeptPlans.objects.get().snapshots
    assert len(ours(plan.repository)) == KEPT
    assert MaintenanceRun.objects.filter(kind=Kind.FORGET, state=State.SUCCESS).count() == 2


def test_they_are_no_clients_record_and_never_the_latest_snapshot(plan: BackupPlan, source: Path) -> None:
    save(plan, source)
    write()
    change_plan(plan, backup_name="another")
    write()
    sync_records(plan.repository)
    assert BackupRecord.objects.count() == 1
    assert find_snapshot(opened(plan.repository), "latest").paths == (str(source),)


def test_what_the_server_wrote_is_not_read_again_to_see_that(plan: BackupPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    write()
    monkeypatch.setattr("records.adopting.open_with", lambda *arguments: pytest.fail("the repository was opened"))
    sync_records(plan.repository)


@pytest.mark.restic
def test_restic_shows_the_plans_as_json(plan: BackupPlan) -> None:
    write()
    row = plan.repository
    environment = {**os.environ, "RESTIC_PASSWORD": row.password, "RESTIC_REPOSITORY": row.location}

    def restic(*arguments: str) -> str:
        done = subprocess.run(["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = json.loads(restic("dump", "--tag", TAG, "latest", PATH))
    assert shown["repository"] == row.repository_id
    assert shown["clients"][0]["hostname"] == plan.client.hostname
    assert shown["plans"][0]["backup_name"] == "nightly"
    assert shown["plans"][0]["cron_expression"] == plan.cron_expression
    (snapshot,) = json.loads(restic("snapshots", "--json"))
    assert (snapshot["tags"], snapshot["paths"]) == ([TAG], [PATH, SIGNATURE_PATH])
    restic("check", "--read-data")


def test_every_field_of_a_plan_is_there_or_left_out_on_purpose() -> None:
    fields = {field.name for field in BackupPlan._meta.concrete_fields}
    elsewhere = {"id", "client", "tenant", "repository", "bucket"}
    of_the_moment = {"next_fire_at", "fired_at", "stale_since", "periodic_task", "created_at"}
    assert fields == {*PLAN_FIELDS} | elsewhere | of_the_moment


def test_no_secret_is_in_it(plan: BackupPlan) -> None:
    Tenant.objects.update(access_key="canary-access", secret_key="canary-secret")
    PlanPing.objects.create(plan=plan, address="https://canary.example.com/ping")
    plan.drill.command = "canary-command"
    plan.drill.save()
    write()
    repository = opened(plan.repository)
    repository.load_index()
    snapshot = find_snapshot(repository, ours(plan.repository)[0])
    text = reading._content(repository, snapshot, PATH, 1 << 20).decode()
    assert "nightly" in text
    for secret in ("canary", plan.repository.password, SigningKey.objects.get().private_key):
        assert secret not in text


def test_a_store_that_does_not_answer_is_a_run_that_failed_and_is_tried_again(plan: BackupPlan, tmp_path: Path) -> None:
    (tmp_path / "store").rename(tmp_path / "away")
    (run,) = write()
    assert (run.state, run.kind) == (State.FAILED, Kind.PLANS)
    assert Event.objects.get(topic=Event.Topic.MAINTENANCE).occasion == Event.Occasion.UPKEEP_FAILED
    (tmp_path / "away").rename(tmp_path / "store")
    assert request_changed_plans() == 0, "not at once"
    assert request_changed_plans(timezone.now() + timedelta(hours=1, minutes=1)) == 1
    assert [each.state for each in run_all()] == [State.SUCCESS]


def test_a_repository_that_somebody_prunes_is_waited_for_outside_of_the_worker(plan: BackupPlan) -> None:
    keeping.request_writing(plan.repository)
    run = MaintenanceRun.objects.get()
    with opened(plan.repository).lock(exclusive=True):
        run_maintenance(run.pk, run.attempt)
    run.refresh_from_db()
    assert (run.state, run.attempt) == (State.QUEUED, 1)
    assert run.not_before is not None
    assert [each.state for each in run_all()] == [State.SUCCESS]


def test_not_all_are_queued_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "QUEUED_AT_ONCE", 2)
    for number in range(3):
        make_plan(tmp_path / "store", bucket=f"b{number}")
    keep_plans()
    keep_plans()
    assert MaintenanceRun.objects.filter(kind=Kind.PLANS).count() == 2
    run_all()
    keep_plans()
    assert [run.state for run in run_all()] == [State.SUCCESS]


def test_looking_for_changes_takes_as_many_queries_for_many_plans_as_for_one(tmp_path: Path) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            changed_repositories()
        return len(captured)

    make_plan(tmp_path / "store")
    write()
    one = queries()
    for number in range(4):
        make_plan(tmp_path / "store", bucket=f"b{number}")
    assert queries() == one


def test_the_command_writes_what_has_changed(plan: BackupPlan) -> None:
    def said(*locations: str) -> str:
        out = StringIO()
        call_command("keepplans", *locations, stdout=out)
        return out.getvalue()

    assert said() == f"{plan.repository.location}: 1 plans\n"
    assert said() == ""
    change_plan(plan, backup_name="another")
    request_changed_plans()
    assert "1 plans" in said(plan.repository.location)
    assert not MaintenanceRun.objects.exclude(state=State.SUCCESS).exists(), "what was queued is what the command does"
    with pytest.raises(CommandError, match="no repository at /nowhere"):
        said("/nowhere")


def test_plans_younger_than_the_kit_come_back_with_their_records(plan: BackupPlan, tmp_path: Path, source: Path) -> None:
    kit = Kit(tmp_path)
    assert len(open_kit(kit.path.read_text(), PASSPHRASE)["plans"]) == 1
    change_plan(plan, backup_name="changed since", hold_type=1, hold_time=9, keep={})
    pause_plan(plan)
    younger = make_plan(
        tmp_path / "store", plan.client, backup_name="younger", end_time=datetime(2030, 1, 1, tzinfo=UTC), jitter_s=60,
        timezone="Asia/Shanghai", misfire="skip", backup_group=4,
        backup_data=json.dumps({"include": ["srv"], "hooks": {"before": [{"command": ["flush", "level=full"]}]}}),
    )  # fmt: skip
    assert younger.repository == plan.repository
    for each in (plan, younger):
        save(each, source)
    write()
    before = {each.uuid: fields_of(each) for each in BackupPlan.objects.all()}
    forget_everything()
    kit.rebuild()
    assert "1 repositories, 1 clients, 2 plans (paused)" in kit.said
    assert f"changed since ({plan.uuid}): made, was paused before" in kit.said
    assert f"younger ({younger.uuid}): made\n" in kit.said
    assert {each.uuid: fields_of(each) for each in BackupPlan.objects.all()} == before
    for each in BackupPlan.objects.all():
        assert (each.paused, each.next_fire_at, each.tenant) == (True, None, each.repository.tenant)
        assert each.periodic_task is not None
        record = BackupRecord.objects.get(plan_uuid=each.uuid)
        assert (record.client, record.plan_name) == (each.client, each.backup_name)
        assert record.backup_detail["backup_data"] == each.backup_data
    assert public_key() == open_kit(kit.path.read_text(), PASSPHRASE)["signing_keys"][0]["public_key"]
    kit.rebuild()
    assert kit.said.count("there already") == 2
    assert BackupPlan.objects.count() == BackupRecord.objects.count() == 2


def test_plans_younger_than_a_backup_of_the_database_come_back_beside_it(plan: BackupPlan, tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    write()
    then = KeptPlans.objects.values().get()
    younger = make_plan(tmp_path / "store", plan.client, backup_name="younger")
    write()
    delete_plan(younger)
    KeptPlans.objects.update(**then)
    kit.rebuild()
    assert f"nightly ({plan.uuid}): there already" in kit.said
    assert f"younger ({younger.uuid}): made" in kit.said
    assert not BackupPlan.objects.get(pk=plan.pk).paused
    assert write()[0].result["plans"] == 2


@pytest.mark.ceph
@pytest.mark.django_db(transaction=True)
def test_of_an_object_store_plans_come_back_too_and_old_definitions_go(tmp_path: Path, ceph_endpoint) -> None:
    endpoint = Endpoint.objects.create(address=ceph_endpoint.address, https=False, type=0)
    tenant = add_tenant(endpoint, *ceph_endpoint.make_user(f"definitions-{os.getpid()}"))
    plan = create_plan(
        client=make_client(), tenant=tenant, bucket=f"definitions-{os.getpid()}", backup_name="p", start_time=START,
        cron_expression="0 0 3 * * ?", backup_data=json.dumps({"include": ["etc"]}),
    )  # fmt: skip
    kit = Kit(tmp_path)
    for number in range(KEPT + 1):
        change_plan(plan, backup_name=f"name {number}")
        assert [run.state for run in write()] == [State.SUCCESS] * (2 if number == KEPT else 1)
    assert len(ours(plan.repository)) == KEPT
    forget_everything()
    kit.rebuild()
    assert BackupPlan.objects.get().backup_name == f"name {KEPT}"


def test_the_newest_word_about_a_repository_counts(plan: BackupPlan, tmp_path: Path) -> None:
    deleted = make_plan(tmp_path / "store", plan.client, backup_name="deleted since")
    kit = Kit(tmp_path)
    delete_plan(deleted)
    write()
    newer = Kit(tmp_path / "store")
    change_plan(plan, backup_name="as neither has it")
    forget_everything()
    kit.rebuild()
    assert [each.backup_name for each in BackupPlan.objects.all()] == ["nightly"]
    assert "the repository itself" in kit.said
    forget_everything()
    newer.rebuild()
    assert "plans as the kit has them" in newer.said


def test_an_old_word_that_is_shown_again_does_not_count_beside_a_newer(plan: BackupPlan, tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    (_number, old), when = next(describe_plans()), timezone.now() + timedelta(minutes=1)
    text = old.encode(plan.repository.repository_id, when)
    change_plan(plan, backup_name="changed since")
    KeptPlans.objects.create(repository=plan.repository, written_at=when)
    write()
    plant(plan.repository, text, sign(text))
    forget_everything()
    kit.rebuild()
    assert BackupPlan.objects.get().backup_name == "changed since"


def test_also_after_the_clock_was_put_back_the_newest_is_the_newest(plan: BackupPlan) -> None:
    future = timezone.now() + timedelta(days=1)
    KeptPlans.objects.create(repository=plan.repository, written_at=future)
    write()
    newest = find_definitions(plan.repository, {public_key()}).newest
    assert newest is not None
    assert newest[0] > future


@pytest.mark.parametrize("how", ["unsigned", "changed", "by another key", "for another repository", "no text"])
def test_what_the_server_did_not_write_is_refused_and_told(plan: BackupPlan, tmp_path: Path, how: str) -> None:
    kit = Kit(tmp_path)
    write()
    hostile = {**next(describe_plans())[1].plans[0], "uuid": "0" * 32, "backup_name": "hostile"}
    forged = Definitions(next(describe_plans())[1].clients, [hostile])
    text = forged.encode("f" * 64 if how == "for another repository" else plan.repository.repository_id, timezone.now())
    signature = sign(text)
    if how == "unsigned":
        signature = "no signature"
    elif how == "changed":
        text = text.replace("hostile", "hostile!")
    elif how == "by another key":
        SigningKey.objects.all().delete()
        signature = sign(text)
    elif how == "no text":
        text = "{}"
        signature = sign(text)
    plant(plan.repository, text, signature)
    forget_everything()
    kit.rebuild()
    assert [each.backup_name for each in BackupPlan.objects.all()] == ["nightly"], "what is the server's own still counts"
    assert "are refused: " in kit.complained
    told = Event.objects.get(title__contains="are refused")
    assert told.occasion == ("" if how == "no text" else Event.Occasion.SECURITY)


def test_without_a_key_to_judge_by_only_the_kit_counts(plan: BackupPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as old_server:
        old_server.setattr("jobs.recoverykit.public_key", lambda: "")
        kit = Kit(tmp_path)
    change_plan(plan, backup_name="changed since")
    write()
    forget_everything()
    kit.rebuild()
    assert BackupPlan.objects.get().backup_name == "nightly"
    assert "the kit has no key" in kit.complained


def test_a_plan_that_cannot_be_made_does_not_stop_the_others(plan: BackupPlan, tmp_path: Path, source: Path) -> None:
    kit = Kit(tmp_path)
    other = make_plan(tmp_path / "store", plan.client, backup_name="bad one")
    third = make_plan(tmp_path / "store", plan.client, backup_name="third")
    BackupPlan.objects.filter(pk=other.pk).update(cron_expression="61 0 0 * * ?")
    save(other, source)
    write()
    forget_everything()
    with pytest.raises(CommandError, match="refused"):
        kit.rebuild()
    assert set(BackupPlan.objects.values_list("backup_name", flat=True)) == {"nightly", "third"}
    assert f"bad one ({other.uuid}): refused: cron_expression: " in kit.complained
    assert third.backup_name in kit.said
    assert BackupRecord.objects.get().plan_uuid == other.uuid


def test_a_number_that_is_another_clients_by_now_makes_no_plan_of_that_one(plan: BackupPlan, tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    number = plan.client_id
    forget_everything()
    make_client(pk=number, hostname="another")
    with pytest.raises(CommandError, match="refused"):
        kit.rebuild()
    assert not BackupPlan.objects.exists()
    assert f"client {number} was host-" in kit.complained


def test_of_a_repository_that_does_not_answer_the_kits_plans_are_made(plan: BackupPlan, tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    write()
    forget_everything()
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(CommandError, match="not all repositories"):
        kit.rebuild()
    assert BackupPlan.objects.get().backup_name == "nightly"
    assert "plans as the kit has them" in kit.said
