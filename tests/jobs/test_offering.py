"""A queued job is offered when its client, repository and endpoint have a slot for it, and says what it waits for until then."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from clients.compatibility import NEWEST_PROTOCOL
from clients.models import Client
from jobs.models import BackupPlan, Rounds
from jobs.offering import offer_jobs, withdraw_offers
from jobs.planning import run_plan
from jobs.recovery import request_recovery
from records import slots
from records.models import BackupRecord, RecoveryRecord, State
from storage.models import Endpoint, Repository
from tests.factories import agent_token, make_client, make_plan, make_record

DESTINATION = '{"destination": "/back"}'


@pytest.fixture
def client(db) -> Client:
    return make_client(last_seen=timezone.now())


def queue(directory: Path, client: Client, count: int, **fields) -> list[BackupRecord]:
    return [run_plan(make_plan(directory, client=client, **fields)) for _ in range(count)]


def offered() -> list[int]:
    return list(BackupRecord.objects.filter(offered_at__isnull=False).order_by("pk").values_list("pk", flat=True))


def reason(record) -> str | None:
    record = type(record).objects.get(pk=record.pk)
    slots.explain_waiting([record])
    return record.waits_for


def test_a_client_is_offered_as_many_jobs_as_the_settings_say_and_the_next_when_one_ends(client, tmp_path) -> None:
    records = queue(tmp_path, client, 4)
    assert offer_jobs() == 2
    assert offer_jobs() == 0
    assert offered() == [records[0].pk, records[1].pk]
    assert reason(records[2]) == "2 jobs of its client are running"
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    assert agent.post(f"/api/agent/job/{records[0].job}/claim", {"attempt": 1}, format="json").status_code == 200
    assert reason(records[0]) is None
    said = {"attempt": 1, "outcome": "failed", "error": "no space"}
    assert agent.post(f"/api/agent/job/{records[0].job}/finish", said, format="json").status_code == 200
    assert records[2].pk in offered()


@pytest.mark.parametrize(
    ("owner", "setting", "sentence"),
    [
        (Client, "CLIENT_JOBS", "1 job of its client is running"),
        (Repository, "REPOSITORY_JOBS", "1 job is running in its repository"),
        (Endpoint, "ENDPOINT_JOBS", "1 job is running at its endpoint"),
    ],
)
@pytest.mark.parametrize("is_own", [True, False])
def test_each_limit_is_the_objects_own_or_the_settings(client, tmp_path, settings, owner, setting, sentence, is_own) -> None:
    records = queue(tmp_path, client, 3)
    owner.objects.update(max_jobs=1 if is_own else None)
    setattr(settings, setting, 50 if is_own else 1)
    assert offer_jobs() == 1
    assert reason(records[1]) == sentence


def test_a_job_that_was_offered_says_that_it_is_to_be_taken(client, tmp_path) -> None:
    (record,) = queue(tmp_path, client, 1)
    assert reason(record) == "it is about to be offered to its client"
    offer_jobs()
    assert reason(record) == "it was offered to its client, which is to take it"


def test_a_client_that_is_not_there_is_offered_nothing_and_holds_nothing(client, tmp_path) -> None:
    silent = make_client()
    (waiting,) = queue(tmp_path, silent, 1)
    Endpoint.objects.update(max_jobs=1)
    (record,) = queue(tmp_path, client, 1)
    assert offer_jobs() == 1
    assert offered() == [record.pk]
    BackupRecord.objects.filter(pk=record.pk).update(state=State.SUCCESS)
    assert reason(waiting) == "its client does not answer"


def test_a_client_whose_agent_is_not_understood_is_offered_nothing_until_it_was_updated(client, tmp_path) -> None:
    (record,) = queue(tmp_path, client, 1)
    assert offer_jobs() == 1
    Client.objects.filter(pk=client.pk).update(protocol=NEWEST_PROTOCOL + 1)
    assert withdraw_offers() == 1
    assert offer_jobs() == 0
    assert reason(record) == "its agent and the server do not understand each other until one of them is updated"
    Client.objects.filter(pk=client.pk).update(protocol=NEWEST_PROTOCOL)
    assert offer_jobs() == 1


def test_who_does_not_take_an_offer_goes_to_the_end(client, tmp_path, settings) -> None:
    Endpoint.objects.update(max_jobs=1)
    other = make_client(last_seen=timezone.now())
    (first,), (second,) = queue(tmp_path, client, 1), queue(tmp_path, other, 1)
    Endpoint.objects.update(max_jobs=1)
    offer_jobs()
    assert offered() == [first.pk]
    BackupRecord.objects.filter(pk=first.pk).update(published_at=timezone.now())
    later = timezone.now() + timedelta(seconds=settings.JOB_REPUBLISH_S + 1)
    withdraw_offers(later)
    offer_jobs(later)
    assert offered() == [second.pk]


def test_an_offer_that_was_published_before_the_clock_was_put_back_ends(client, tmp_path) -> None:
    queue(tmp_path, client, 1)
    offer_jobs()
    BackupRecord.objects.update(published_at=timezone.now() + timedelta(hours=1))
    assert withdraw_offers() == 1


def test_restores_are_offered_before_backups(client, tmp_path) -> None:
    (old,) = queue(tmp_path, client, 1)
    Client.objects.update(max_jobs=1)
    recovery = request_recovery(client, make_record(BackupPlan.objects.get()), DESTINATION)
    assert offer_jobs() == 1
    assert RecoveryRecord.objects.get(pk=recovery.pk).offered_at is not None
    assert reason(old) == "1 job of its client is running"


def test_a_claim_without_an_offer_is_granted_only_where_there_is_a_slot(client, tmp_path) -> None:
    Client.objects.update(max_jobs=1)
    first, second = queue(tmp_path, client, 2)
    agent = APIClient()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {agent_token(client)}")
    assert agent.post(f"/api/agent/job/{first.job}/claim", {"attempt": 1}, format="json").status_code == 200
    refused = agent.post(f"/api/agent/job/{second.job}/claim", {"attempt": 1}, format="json")
    assert (refused.status_code, refused.json()["error"]) == (409, "1 job of its client is running")
    second.refresh_from_db()
    assert second.state == State.QUEUED


def test_what_is_not_to_begin_yet_waits_and_says_until_when(client, tmp_path) -> None:
    (record,) = queue(tmp_path, client, 1)
    moment = timezone.now() + timedelta(minutes=5)
    BackupRecord.objects.update(not_before=moment)
    assert offer_jobs() == 0
    assert reason(record) == f"it is not to begin before {moment:%H:%M:%S}"
    Client.objects.update(last_seen=moment)
    assert offer_jobs(moment) == 1


def test_of_those_who_ask_at_once_the_last_finds_that_all_was_seen(client, tmp_path, monkeypatch) -> None:
    queue(tmp_path, client, 1)
    lock = Rounds.lock

    def after_two_rounds() -> Rounds:
        Rounds.objects.update_or_create(pk=1, defaults={"number": 2})
        return lock()

    monkeypatch.setattr(Rounds, "lock", after_two_rounds)
    assert offer_jobs() == 0


def test_a_round_takes_as_many_queries_for_fifty_jobs_as_for_one(client, tmp_path, django_assert_max_num_queries) -> None:
    queue(tmp_path, client, 1)
    Rounds.lock()
    with django_assert_max_num_queries(16) as few:
        assert offer_jobs() == 1
    for _ in range(50):
        queue(tmp_path, make_client(last_seen=timezone.now()), 1)
    Repository.objects.update(max_jobs=100)
    with django_assert_max_num_queries(len(few)):
        assert offer_jobs() == 50


def test_the_api_and_the_console_say_what_waits_and_for_what(api, account, client, tmp_path, django_assert_max_num_queries) -> None:
    record = queue(tmp_path, client, 3)[2]
    offer_jobs()
    sentence = "2 jobs of its client are running"
    assert api("viewer").get(f"/api/record/backup/{record.pk}").json()["waits"] == sentence
    viewer = api("viewer")
    with django_assert_max_num_queries(8):
        shown = viewer.get("/api/record/backup").json()["Data"]
    assert [row["waits"] for row in shown][:1] == [sentence]
    browser = Browser()
    browser.force_login(account("viewer"))
    for page in ("changelist", "change"):
        address = reverse(f"admin:records_backuprecord_{page}", args=[record.pk] if page == "change" else [])
        assert sentence in browser.get(address).content.decode()


def test_limits_are_set_over_the_api_and_checked(api, client, tmp_path) -> None:
    queue(tmp_path, client, 1)
    address = quote(str(tmp_path), safe="")
    paths = [f"/api/client/{client.ipv4}", f"/api/endpoint/{address}", f"/api/repository/{Repository.objects.get().pk}"]
    administrator = api("administrator")
    for path in paths:
        for limit in (7, None):
            assert administrator.put(path, {"max_jobs": limit}, format="json").json()["max_jobs"] == limit
        for wrong in (0, -1, "many", 1 << 40):
            refused = administrator.put(path, {"max_jobs": wrong}, format="json")
            assert (refused.status_code, list(refused.json()["fields"])) == (400, ["max_jobs"])
        assert api("operator").put(path, {"max_jobs": 7}, format="json").status_code == 403
    assert [row["max_jobs"] for row in api("viewer").get("/api/repository").json()] == [None]


@pytest.mark.parametrize("name", ["clients_client", "storage_endpoint", "storage_repository"])
def test_the_console_takes_limits(account, client, tmp_path, name) -> None:
    queue(tmp_path, client, 1)
    model = {"clients_client": Client, "storage_endpoint": Endpoint, "storage_repository": Repository}[name]
    browser = Browser()
    browser.force_login(account("administrator"))
    address = reverse(f"admin:{name}_change", args=[model.objects.get().pk])
    form = browser.get(address).context["adminform"].form
    data = {key: form[key].value() for key in form.fields if form[key].value() is not None}
    browser.post(address, {**data, "max_jobs": "5"})
    assert model.objects.get().max_jobs == 5
