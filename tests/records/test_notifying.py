"""Who is told of what, when, and that nothing of it is lost."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from standardwebhooks import Webhook

from records.events import emit
from records.models import Event
from records.notifying.channels import save_channel
from records.notifying.models import Channel, Delivery, Rule
from records.notifying.rules import due_time
from records.notifying.sending import ATTEMPTS, pause, send_due
from storage.secrets import MASK
from tests.factories import make_client
from tests.services.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def service() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def bodies(service: Receiver) -> list[dict]:
    return [json.loads(posted.body) for posted in service.got]


def people(service: Receiver, **fields) -> Channel:
    return Channel.objects.create(**{"name": "people", "address": f"json://user:s3cr3t-word@{service.host}/hook", **fields})


def rule(*channels: Channel, **fields) -> Rule:
    made = Rule.objects.create(**{"name": f"rule-{Rule.objects.count()}", "occasions": ["failed"], **fields})
    made.channels.set(channels)
    return made


def fail(title: str = "Backup x #1: failed", **fields) -> None:
    emit(Event.Level.ERROR, Event.Topic.BACKUP, title, "the disk is full", **{"occasion": Event.Occasion.FAILED, **fields})


def test_an_occasion_that_a_rule_names_is_told_once(service):
    channel = people(service)
    rule(channel)
    rule(channel)
    fail()
    emit(Event.Level.INFO, Event.Topic.BACKUP, "started")
    emit(Event.Level.ERROR, Event.Topic.BACKUP, "missed", occasion=Event.Occasion.MISSED)
    assert (send_due(), send_due()) == (1, 0)
    (said,) = bodies(service)
    assert "Backup x #1: failed" in said["title"]
    assert "the disk is full" in said["message"]
    assert said["type"] == "failure"
    assert Delivery.objects.get().state == Delivery.State.TOLD


def test_a_channel_is_told_in_its_language(service):
    rule(people(service, language="zh-hans"))
    fail()
    send_due()
    assert "备份或恢复失败" in bodies(service)[0]["title"]


def test_what_is_due_together_is_one_message(service):
    rule(people(service))
    for number in range(25):
        fail(f"Backup x #{number}: failed")
    assert send_due() == 25
    (said,) = bodies(service)
    assert "25" in said["title"]
    assert "Backup x #19" in said["message"]
    assert "Backup x #24" not in said["message"]


def test_a_rule_that_names_clients_or_plans_is_about_no_other(service):
    client, plan = make_client(), "5a5dcd2c-6b12-4b6e-8d3f-0f3d5d9f0001"
    rule(people(service), plans=[plan]).clients.add(client)
    fail("of another", client=make_client())
    fail("of nobody")
    fail("of the client", client=client)
    fail("of the plan", plan_uuid=plan)
    assert set(Delivery.objects.values_list("event__title", flat=True)) == {"of the client", "of the plan"}


def test_what_was_not_taken_is_told_again_later_and_given_up_visibly(service):
    service.status = 503
    rule(people(service))
    fail()
    now = datetime.now(UTC)
    for _attempt in range(ATTEMPTS + 1):
        send_due(now := now + timedelta(hours=2))
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, len(service.got)) == (Delivery.State.GIVEN_UP, ATTEMPTS, ATTEMPTS)
    assert "503" in delivery.error
    assert Event.objects.filter(title__contains="people", message=delivery.error, occasion="").exists()
    service.status = 200
    assert send_due(now + timedelta(days=1)) == 0


def test_a_delivery_is_not_tried_again_before_its_pause_is_over(service):
    service.status = 500
    rule(people(service))
    fail()
    now = datetime.now(UTC) + timedelta(seconds=1)
    send_due(now)
    send_due(now + pause(1) - timedelta(seconds=1))
    assert len(service.got) == 1
    service.status = 200
    assert send_due(now + pause(1)) == 1


def test_what_a_dead_sender_had_claimed_is_told_by_another(service, monkeypatch):
    rule(people(service))
    fail()
    now = datetime.now(UTC) + timedelta(seconds=1)
    monkeypatch.setattr("records.notifying.sending._note", lambda letter, now: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        send_due(now)
    monkeypatch.undo()
    assert send_due(now) == 0
    assert send_due(now + timedelta(hours=1)) == 1


def test_an_event_that_is_rolled_back_is_told_to_nobody(service):
    from django.db import transaction

    rule(people(service))
    with transaction.atomic():
        fail()
        transaction.set_rollback(True)
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    ("fields", "now", "due"),
    [
        ({}, NOON, NOON),
        ({"digest": "hourly"}, NOON + timedelta(minutes=5), NOON + timedelta(hours=1)),
        ({"digest": "daily"}, NOON, datetime(2026, 3, 3, 8, tzinfo=UTC)),
        ({"quiet_from": time(22), "quiet_until": time(7)}, NOON, NOON),
        ({"quiet_from": time(22), "quiet_until": time(7)}, NOON.replace(hour=23), datetime(2026, 3, 3, 7, tzinfo=UTC)),
        ({"quiet_from": time(22), "quiet_until": time(7)}, NOON.replace(hour=3), NOON.replace(hour=7)),
        ({"quiet_from": time(12), "quiet_until": time(13)}, NOON, NOON.replace(hour=13)),
        # Noon in UTC is 20:00 in Shanghai.
        ({"quiet_from": time(19), "quiet_until": time(21), "timezone": "Asia/Shanghai"}, NOON, NOON.replace(hour=13)),
    ],
)
def test_digests_and_quiet_hours_put_off_what_is_told(fields, now, due):
    assert due_time(Rule(**{"timezone": "UTC", **fields}), now) == due


def test_a_webhook_is_signed_as_the_specification_says_and_keeps_its_id(service):
    channel = Channel(name="programs", kind="webhook", address=f"http://{service.host}/hook")
    secret = save_channel(channel)
    rule(channel)
    fail(client=make_client())
    service.status = 500
    now = datetime.now(UTC) + timedelta(seconds=1)
    send_due(now)
    service.status = 204
    assert send_due(now + pause(1)) == 1
    (_path, first, _body), (_path, headers, body) = service.got
    assert first["webhook-id"] == headers["webhook-id"] == str(Delivery.objects.get().uid)
    assert Webhook(secret).verify(body, headers)["type"] == "failed"
    with pytest.raises(Exception, match="signature"):
        Webhook(secret).verify(body + " ", headers)


def test_no_address_is_shown_or_stored_in_the_clear(api, service, caplog):
    answer = api("administrator").post(
        "/api/notification/channel", {"name": "people", "address": f"json://user:s3cr3t-word@{service.host}"}, format="json"
    )
    assert (answer.status_code, answer.json()["address"]) == (201, MASK)
    service.status = 401
    number = answer.json()["id"]
    refused = api("administrator").post(f"/api/notification/channel/{number}/test")
    assert refused.status_code == 409
    assert "401" in refused.json()["error"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT address FROM records_channel")
        stored = cursor.fetchone()[0]
    for text in (
        stored,
        caplog.text,
        refused.content.decode(),
        api("administrator").get("/api/notification/channel").content.decode(),
    ):
        assert "s3cr3t-word" not in text


def test_a_webhooks_secret_shows_once(api, service):
    fields = {"name": "programs", "kind": "webhook", "address": f"http://{service.host}"}
    made = api("administrator").post("/api/notification/channel", fields, format="json").json()
    assert made["secret"].startswith("whsec_")
    assert api("administrator").get(f"/api/notification/channel/{made['id']}").json()["secret"] == MASK


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("apprise", "json://169.254.169.254/latest"),
        ("apprise", "json://[::ffff:169.254.169.254]/"),
        ("apprise", "mailto://u:p@example.com?smtp=169.254.169.254"),
        ("apprise", "syslog://"),
        ("apprise", "fcm://project/token?keyfile=/etc/passwd"),
        ("apprise", "nonsense"),
        ("webhook", "http://169.254.169.254/"),
        ("webhook", "http://metadata.google.internal/"),
        ("webhook", "ftp://127.0.0.1/"),
    ],
)
def test_addresses_that_lead_where_nobody_is_to_be_told_are_refused(api, kind, address):
    fields = {"name": "people", "kind": kind, "address": address}
    answer = api("administrator").post("/api/notification/channel", fields, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["address"])
    assert not Channel.objects.exists()


def test_the_command_tries_a_channel(service, capsys):
    people(service)
    call_command("notifytest", "people")
    service.status = 500
    with pytest.raises(CommandError, match="500"):
        call_command("notifytest", "people")
    assert len(service.got) == 2
