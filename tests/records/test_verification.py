"""Every repository is checked each day, and every byte of it is read within the days that the settings say."""

import random
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.commands.backup import backup
from records.maintenance import run_maintenance
from records.models import Event, MaintenanceRun, State
from records.tasks import housekeep, run_maintenance_task
from records.verification import DAY_S, PARTS, Turn, left_to_read, parts_in_turn, verification_of
from records.verifying import CHECKS_KEPT, TRY_AGAIN_AFTER, request_check, request_due_checks
from storage.models import Repository, Verification
from storage.repositories import open_repository
from tests.factories import make_plan, make_record

Kind = MaintenanceRun.Kind
DAY = timedelta(days=1)


def backed_up(directory: Path, content: bytes = random.randbytes(20_000)) -> Repository:
    """Make a repository with a backup of one file in it, and the record of that."""
    plan = make_plan(directory / "store")
    (directory / "source").write_bytes(content)
    opened = open_repository(plan.repository)
    make_record(plan, snapshot=backup(opened, [directory / "source"], host="here").snapshot_id)
    return plan.repository


@pytest.fixture
def repository(db, tmp_path: Path) -> Repository:
    (tmp_path / "store").mkdir()
    return backed_up(tmp_path)


def check(repository: Repository, reads: str = "turn") -> MaintenanceRun:
    run = request_check(repository, reads)
    run_maintenance(run.pk, 1)
    run.refresh_from_db()
    return run


def packs(repository: Repository) -> list[Path]:
    return [path for path in (Path(repository.location) / "data").glob("*/*") if path.is_file()]


def data_pack(repository: Repository) -> Path:
    """Return the pack with the file's content: trees are smaller."""
    return max(packs(repository), key=lambda pack: pack.stat().st_size)


def damage(pack: Path) -> None:
    pack.chmod(0o600)
    content = bytearray(pack.read_bytes())
    content[10] ^= 1
    pack.write_bytes(content)


@given(days=st.integers(1, 90), missed=st.sets(st.integers(0, 120), max_size=60))
@settings(max_examples=20)
def test_every_part_is_read_within_the_days_unless_days_are_missed(days, missed) -> None:
    read_at, begun = [0] * PARTS, 1_000_000.0
    for day in range(120):
        now = begun + day * DAY_S
        if day not in missed:
            for part in parts_in_turn(read_at, (), begun, now, days):
                read_at[part] = int(now)
        if day >= days and day not in missed:
            assert now - min(read_at) <= days * DAY_S


def test_what_was_found_damaged_is_read_again_first_and_the_rest_goes_on() -> None:
    read_at = list(range(1, PARTS + 1))
    assert parts_in_turn(read_at, [200], 0, 1000, 128) == [200, 0]


def test_no_more_is_read_than_the_limit_but_always_something() -> None:
    sizes = {bytes([part]) * 32: 100 for part in range(10)}
    turn = Turn(range(10), limit=250)
    assert len(turn(sizes)) == 2
    assert turn.taken == [0, 1]
    turn = Turn(range(10), limit=1)
    assert len(turn(sizes)) == 1


def test_a_repository_is_checked_from_its_first_backup_on_and_daily(repository, tmp_path) -> None:
    make_plan(tmp_path / "store")
    now = timezone.now()
    assert request_due_checks(now) == 1
    run = MaintenanceRun.objects.get()
    assert (run.repository, run.kind) == (repository, Kind.CHECK_DATA)
    assert request_due_checks(now + 3 * DAY) == 0, "one is under way"
    run_maintenance(run.pk, 1)
    assert request_due_checks(now + DAY - timedelta(minutes=5)) == 0
    assert request_due_checks(now + DAY + timedelta(minutes=5)) == 1


def test_of_a_store_one_repository_is_checked_after_the_other(repository, tmp_path) -> None:
    (tmp_path / "two").mkdir()
    other = make_plan(tmp_path / "store")
    make_record(other)
    assert request_due_checks() == 1
    run = MaintenanceRun.objects.get()
    run_maintenance_task(run.pk, 1)
    following = MaintenanceRun.objects.filter(state=State.QUEUED).get()
    assert following.repository == other.repository


def test_a_check_that_could_not_be_made_is_tried_again_within_the_day(repository, monkeypatch) -> None:
    now = timezone.now()
    request_due_checks(now)
    MaintenanceRun.objects.update(state=State.FAILED, end_time=now)
    assert request_due_checks(now + TRY_AGAIN_AFTER - timedelta(minutes=1)) == 0
    assert request_due_checks(now + TRY_AGAIN_AFTER) == 1


def test_what_is_read_day_by_day_adds_up_to_all(repository, settings) -> None:
    settings.VERIFY_DATA_DAYS = 4
    read = 0
    for day in range(4):
        run = check(repository)
        assert run.state == State.SUCCESS, run.error
        read += run.result["packs_read"]
        known = Verification.objects.get()
        assert known.data_share == (day + 1) / 4
    assert read == len(packs(repository)) == 2
    assert known.data_since is not None
    assert known.state == Verification.State.SOUND
    assert not Event.objects.filter(topic=Event.Topic.MAINTENANCE).exists()


def test_damaged_data_is_told_until_it_was_read_whole_again(repository, settings) -> None:
    settings.VERIFY_DATA_DAYS = 1
    pack = data_pack(repository)
    whole = pack.read_bytes()
    damage(pack)
    run = check(repository)
    assert run.state == State.FAILED
    assert pack.name in run.error
    known = verification_of(repository)
    assert (known.state, known.damaged, known.structure_at) == ("damaged", [int(pack.name[:2], 16)], run.start_time)
    assert Event.objects.filter(topic=Event.Topic.MAINTENANCE, level=Event.Level.ERROR).count() == 1
    settings.VERIFY_DATA_DAYS = 0
    assert check(repository).state == State.SUCCESS
    assert verification_of(repository).state == "damaged", "nobody has read it since"
    settings.VERIFY_DATA_DAYS = 30
    pack.write_bytes(whole)
    check(repository)
    known = verification_of(repository)
    assert (known.state, known.problem) == ("sound", "")
    assert Event.objects.filter(title__contains="sound again").count() == 1


def test_a_pack_that_is_missing_is_a_matter_of_structure(repository) -> None:
    packs(repository)[0].unlink()
    check(repository, "structure")
    known = verification_of(repository)
    assert (known.state, known.structure_at) == ("damaged", None)
    assert "missing" in known.problem


def test_a_days_limit_of_a_store_counts_what_was_read(repository, settings) -> None:
    settings.VERIFY_GIB_PER_DAY = settings.VERIFY_DATA_DAYS = 1
    run = check(repository, "all")
    endpoint = repository.tenant.endpoint
    assert run.result["bytes_read"] > 0
    assert left_to_read(endpoint) == (1 << 30) - run.result["bytes_read"]
    assert left_to_read(endpoint, timezone.now() + DAY) == 1 << 30
    MaintenanceRun.objects.update(result={"bytes_read": 2 << 30})
    assert check(repository).result["packs_read"] == 0
    settings.VERIFY_GIB_PER_DAY = 0
    assert check(repository).result["packs_read"] > 0


def test_who_cannot_read_all_in_time_is_told(repository, settings) -> None:
    settings.VERIFY_GIB_PER_DAY = 1
    check(repository, "all")
    MaintenanceRun.objects.update(result={"bytes_read": 2 << 30})
    long_ago = int((timezone.now() - 40 * DAY).timestamp())
    Verification.objects.update(read_at=[long_ago] * PARTS)
    check(repository)
    assert verification_of(repository).state == "overdue"
    told = Event.objects.get(topic=Event.Topic.MAINTENANCE, level=Event.Level.WARNING)
    assert "BACKUPCENTER_VERIFY_GIB_PER_DAY" in told.message


def test_a_repository_that_nobody_checks_is_overdue(repository) -> None:
    known = verification_of(repository)
    assert known.state == "waiting"
    Verification.objects.update(begun_at=timezone.now() - 3 * DAY)
    assert verification_of(repository).state == "overdue"


def test_the_api_tells_what_is_known_and_checks_on_demand(repository, api, django_assert_num_queries) -> None:
    address = f"/api/repository/{repository.pk}"
    assert api("viewer").get(address).json()["verification"] is None
    answer = api("operator").post(f"{address}/checks", {"reads": "all"}, format="json")
    assert (answer.status_code, answer.json()["kind"]) == (201, "check-data")
    assert api("operator").post(f"{address}/checks", {}, format="json").status_code == 409
    run_maintenance(answer.json()["id"], 1)
    known = api("viewer").get(address).json()["verification"]
    assert (known["state"], known["data_share"], known["problem"]) == ("sound", 1.0, "")
    assert known["structure_time"] == known["data_since"]
    listed = api("viewer").get(f"{address}/checks").json()
    assert (listed["total"], listed["Data"][0]["result"]["parts_read"]) == (1, PARTS)
    assert api("viewer").get("/api/repository/999999/checks").status_code == 404


def test_the_console_shows_what_is_known(repository, account) -> None:
    browser = Browser()
    browser.force_login(account("viewer"))
    page = reverse("admin:storage_repository_change", args=[repository.pk])
    assert "not checked yet" in browser.get(page).content.decode()
    check(repository, "all")
    shown = browser.get(page).content.decode()
    assert "all data read since" in shown
    assert f"?repository__id__exact={repository.pk}" in shown
    listed = browser.get(reverse("admin:records_maintenancerun_changelist") + f"?repository__id__exact={repository.pk}")
    assert listed.context["cl"].result_count == 1


def test_the_command_checks_and_fails_if_something_is_wrong(repository) -> None:
    out, err = StringIO(), StringIO()
    call_command("verify", repository.location, "--read", "all", stdout=out, stderr=err)
    assert "sound; structure sound" in out.getvalue()
    damage(data_pack(repository))
    with pytest.raises(CommandError, match="1 repositories"):
        call_command("verify", "--read", "all", stdout=out, stderr=err)
    assert data_pack(repository).name in err.getvalue()
    with pytest.raises(CommandError, match="no repository"):
        call_command("verify", "/nowhere")


def test_checks_are_kept_for_more_than_a_year(repository) -> None:
    run = check(repository)
    MaintenanceRun.objects.update(end_time=timezone.now() - CHECKS_KEPT + DAY)
    housekeep()
    assert MaintenanceRun.objects.filter(pk=run.pk).exists()
    MaintenanceRun.objects.filter(pk=run.pk).update(end_time=timezone.now() - CHECKS_KEPT - DAY)
    housekeep()
    assert not MaintenanceRun.objects.filter(pk=run.pk).exists()
