"""Whose backups a host can read: its own, by default; all of the bucket's only where a plan says that it shares."""

import pytest
from django.urls import reverse

from engine.backends import open_store
from engine.errors import WrongPassword
from engine.repository import Repository as EngineRepository
from jobs.models import BackupPlan
from jobs.planning import run_plan
from jobs.recovery import request_recovery
from jobs.specification import job_specification
from tests.factories import make_client, make_plan, make_record, make_tenant

SHARED = {"shared": True}


def told(plan: BackupPlan) -> dict:
    """Return what the agent of a plan's client is told of its repository."""
    return job_specification(run_plan(plan))["repository"]


def opens(place: dict, password: str) -> bool:
    try:
        EngineRepository.open(open_store(place["location"]), password).close()
    except WrongPassword:
        return False
    return True


@pytest.fixture
def clients(db):
    return [make_client(hostname="same-name") for _ in range(3)]


def test_a_host_is_told_nothing_that_opens_another_hosts_backups(clients, tmp_path) -> None:
    places = [told(make_plan(tmp_path, client=client)) for client in clients]
    for number, place in enumerate(places):
        assert [opens(place, other["password"]) for other in places] == [number == index for index in range(len(places))]
    assert len({place["location"] for place in places}) == len(places)


def test_a_password_is_drawn_and_long_enough_that_nobody_guesses_it(clients, tmp_path) -> None:
    passwords = [told(make_plan(tmp_path, client=client))["password"] for client in clients]
    assert len(set(passwords)) == len(clients)
    assert all(len(password) >= 43 for password in passwords), "256 bits in base64"


def test_plans_of_one_host_share_what_it_wrote(clients, tmp_path) -> None:
    client = clients[0]
    assert told(make_plan(tmp_path, client=client)) == told(make_plan(tmp_path, client=client))


def test_hosts_that_share_are_told_the_same_and_nothing_of_those_that_do_not(clients, tmp_path) -> None:
    first, second = (told(make_plan(tmp_path, client=client, **SHARED)) for client in clients[:2])
    own = told(make_plan(tmp_path, client=clients[2]))
    assert first == second
    assert not opens(own, first["password"])
    assert not opens(first, own["password"])


def test_a_host_that_restores_anothers_backup_is_told_that_ones_password_alone(clients, tmp_path) -> None:
    """Somebody has asked for it; afterwards the host knows it, which docs/stores.md says."""
    theirs = make_record(make_plan(tmp_path, client=clients[0]))
    third = told(make_plan(tmp_path, client=clients[2]))
    recovery = request_recovery(clients[1], theirs, '{"destination": "/back"}')
    place = job_specification(recovery)["repository"]
    assert opens(place, place["password"])
    assert not opens(third, place["password"])


@pytest.mark.parametrize(("typed", "prefix"), [({}, "same-name-"), ({"shared": "on"}, "")])
def test_the_console_has_hosts_share_a_bucket_only_when_it_is_told_to(clients, tmp_path, account, client, typed, prefix) -> None:
    form = {
        "backup_name": "by hand", "backup_group": 0, "client": clients[0].pk, "tenant": make_tenant(tmp_path).pk,
        "bucket": "bucket-2", "cron_expression": "0 0 5 * * ?", "timezone": "UTC", "start_time_0": "2026-01-01",
        "start_time_1": "00:00:00", "hold_type": 0, "hold_time": 0, "backup_data": '{"include": ["/etc"]}', "misfire": "run-once",
    }  # fmt: skip
    client.force_login(account("operator"))
    page = client.get(reverse("admin:jobs_backupplan_add")).content.decode()
    assert "can read only what it wrote" in page
    assert client.post(reverse("admin:jobs_backupplan_add"), {**form, **typed}).status_code == 302
    plan = BackupPlan.objects.get()
    assert plan.repository.prefix.startswith(prefix)
    assert bool(plan.repository.prefix) == bool(prefix)
    assert 'name="shared"' not in client.get(reverse("admin:jobs_backupplan_change", args=[plan.pk])).content.decode()
