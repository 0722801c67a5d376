"""A service outside hears of a plan's runs, and of nothing else; and nobody reads its address."""

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.urls import reverse
from django.utils import timezone

from jobs import pinging
from jobs.dispatch import Launch, launch_backups
from jobs.models import PlanPing
from jobs.pinging import ATTEMPTS, end_ping, send_due_pings, set_ping
from records.lifecycle import cancel_job, claim_job, finish_job, lose_job
from records.models import BackupRecord, Event, State
from records.notifying.addresses import ChannelRefused
from tests.factories import make_plan, make_record
from tests.services.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "6f1c0e5a-secret-check"


@pytest.fixture
def watcher() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def address(watcher: Receiver) -> str:
    return f"http://{watcher.host}/ping/{SECRET}?team=1"


@pytest.fixture
def plan(tmp_path):
    return make_plan(tmp_path)


@pytest.fixture(autouse=True)
def known():
    pinging.forget_known()


def run(plan, **fields) -> BackupRecord:
    return make_record(plan, state=State.QUEUED, offered_at=timezone.now(), **fields)


def paths(watcher: Receiver) -> list[str]:
    return [path.replace(SECRET, "x") for path, _headers, _body in watcher.got]


def test_the_service_hears_of_begin_and_end_of_a_run(plan, watcher):
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)
    assert send_due_pings() == 1
    finish_job(record, 1, "success")
    assert (send_due_pings(), send_due_pings()) == (1, 0)
    assert paths(watcher) == ["/ping/x/start?team=1", "/ping/x?team=1"]
    ping = PlanPing.objects.get()
    assert (ping.signal, ping.due_at, ping.error) == ("success", None, "")
    assert ping.told_at is not None


@pytest.mark.parametrize("outcome", ["failed", "crashed"])
def test_a_failure_is_told_as_one_with_its_reason_once_nothing_more_is_tried(plan, watcher, settings, outcome):
    settings.JOB_ATTEMPTS = 1
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)
    finish_job(record, 1, outcome, error="the disk is full")
    send_due_pings()
    assert paths(watcher) == ["/ping/x/fail?team=1"]
    assert "the disk is full" in watcher.got[0].body


def test_what_is_tried_again_or_cancelled_is_no_outcome(plan, watcher):
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)
    send_due_pings()
    lose_job(record, 1, "gone")
    cancel_job(record)
    send_due_pings()
    assert paths(watcher) == ["/ping/x/start?team=1"]


def test_a_run_that_fails_before_it_starts_is_told(plan, watcher, monkeypatch):
    monkeypatch.setattr("jobs.dispatch.quota_problem", lambda plan: "it does not fit")
    set_ping(plan, address(watcher))
    launch_backups([Launch(plan)])
    send_due_pings()
    assert paths(watcher) == ["/ping/x/fail?team=1"]


def test_a_plan_without_pings_costs_no_query(plan, django_assert_num_queries, tmp_path):
    record = run(plan)
    pinging._plans_with_pings()
    with django_assert_num_queries(0):
        pinging.note_signal(BackupRecord, record)
    end_ping(plan)
    assert send_due_pings() == 0


def test_a_signal_that_cannot_be_kept_is_an_event_and_fails_no_run(plan, watcher):
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)

    def refuse(execute, sql, *arguments):
        if sql.startswith('UPDATE "jobs_planping"'):
            raise OperationalError("the disk is full")
        return execute(sql, *arguments)

    with connection.execute_wrapper(refuse):
        finish_job(record, 1, "failed", error="no room")
    record.refresh_from_db()
    assert record.state == State.FAILED
    event = Event.objects.get(title=f"Nobody could be pinged for {plan}")
    assert (event.message, event.plan_uuid) == ("OperationalError", plan.uuid)


def test_what_the_service_does_not_take_is_tried_again_and_given_up_with_an_event(plan, watcher):
    watcher.status = 503
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)
    now = timezone.now()
    for number in range(1, ATTEMPTS + 1):
        assert PlanPing.objects.get().due_at is not None
        send_due_pings(now)
        assert len(watcher.got) == number
        assert send_due_pings(now) == 0
        now += timedelta(hours=1)
    ping = PlanPing.objects.get()
    assert ping.due_at is None
    assert "503" in ping.error
    assert Event.objects.filter(title__contains="Nobody could be pinged").count() == 1


def test_a_signal_that_comes_while_another_is_sent_is_sent_too(plan, watcher, monkeypatch):
    set_ping(plan, address(watcher))
    record = run(plan)
    claim_job(record, 1)
    send = pinging._send

    def meanwhile(ping):
        monkeypatch.setattr(pinging, "_send", send)
        finish_job(record, 1, "success")
        connection.close()
        return send(ping)

    monkeypatch.setattr(pinging, "_send", meanwhile)
    monkeypatch.setattr(pinging, "ThreadPoolExecutor", Here)
    assert (send_due_pings(), send_due_pings()) == (1, 1)
    assert paths(watcher) == ["/ping/x/start?team=1", "/ping/x?team=1"]


class Here:
    """A pool that works in the thread of its caller, which has the tests' database."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    map = staticmethod(map)


def test_the_address_is_nowhere_to_be_read(plan, watcher, api, account, client, caplog):
    caplog.set_level(logging.DEBUG)
    people = api("administrator")
    place = f"/api/backup/{plan.uuid}/ping"
    assert people.get(place).json() == {"host": "", "signal": "", "told_time": None, "error": ""}
    answer = people.put(place, {"address": address(watcher)}, format="json")
    assert (answer.status_code, answer.json()["host"]) == (200, "127.0.0.1")
    watcher.shutdown()
    watcher.server_close()
    claim_job(run(plan), 1)
    send_due_pings()
    told = people.get(place)
    assert told.json()["error"]
    client.force_login(account("administrator"))
    pages = [reverse("admin:jobs_planping_changelist"), reverse("admin:jobs_planping_change", args=[PlanPing.objects.get().pk]),
             reverse("admin:jobs_backupplan_change", args=[plan.pk])]  # fmt: skip
    shown = [client.get(page).content.decode() for page in pages]
    assert all("127.0.0.1" in page for page in shown)
    assert SECRET not in "".join([told.content.decode(), answer.content.decode(), caplog.text, *shown])
    with connection.cursor() as cursor:
        cursor.execute("SELECT address FROM jobs_planping")
        assert SECRET not in cursor.fetchone()[0]
    assert people.delete(place).status_code == 204
    assert not PlanPing.objects.exists()


@pytest.mark.parametrize("wrong", ["", "ftp://x/y", "https://", "http://169.254.169.254/latest", "http://[", "no address"])
def test_an_address_that_cannot_be_pinged_is_refused(plan, api, wrong):
    answer = api("administrator").put(f"/api/backup/{plan.uuid}/ping", {"address": wrong}, format="json")
    assert answer.status_code == 400
    assert not PlanPing.objects.exists()


def test_an_address_that_has_come_to_lead_elsewhere_is_not_pinged(plan, watcher, monkeypatch):
    set_ping(plan, address(watcher))

    def refuse(address: str):
        raise ChannelRefused("it leads elsewhere")

    monkeypatch.setattr(pinging, "require_web_address", refuse)
    claim_job(run(plan), 1)
    send_due_pings()
    assert watcher.got == []
    assert PlanPing.objects.get().error == "ChannelRefused"


def test_the_console_takes_an_address_and_ends_pings(plan, watcher, account, client):
    client.force_login(account("administrator"))
    page = reverse("admin:jobs_planping_add")
    client.post(page, {"plan": plan.pk, "address": address(watcher)})
    assert PlanPing.objects.get().address == address(watcher)
    other = address(watcher).replace("team=1", "team=2")
    client.post(reverse("admin:jobs_planping_change", args=[PlanPing.objects.get().pk]), {"address": other})
    assert PlanPing.objects.get().address == other
    client.post(reverse("admin:jobs_planping_delete", args=[PlanPing.objects.get().pk]), {"post": "yes"})
    assert not PlanPing.objects.exists()
