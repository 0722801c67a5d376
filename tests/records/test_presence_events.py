"""People are told once when a client falls silent, and once when it is back."""

from datetime import timedelta

from django.utils import timezone

from clients.models import Client
from clients.presence import receive_heartbeat, touch, watch_presence
from records.models import Event, State
from tests.factories import make_plan, make_record


def test_silence_and_return_are_events_of_the_client(db) -> None:
    client = Client.objects.create(ipv4=1, hostname="client1", last_seen=timezone.now() - timedelta(days=1))
    watch_presence()
    watch_presence()
    for _ in range(2):
        client.refresh_from_db()
        touch(client.pk)
    assert list(Event.objects.order_by("pk").values_list("level", "topic", "title")) == [
        (Event.Level.WARNING, Event.Topic.CLIENT, "client1 does not answer"),
        (Event.Level.SUCCESS, Event.Topic.CLIENT, "client1 is back"),
    ]


def test_what_waits_for_an_agent_that_was_just_started_is_put_on_its_queue_again(db, tmp_path) -> None:
    plan = make_plan(tmp_path)
    waiting = make_record(plan, state=State.QUEUED, published_at=timezone.now())
    receive_heartbeat(plan.client_id)
    waiting.refresh_from_db()
    assert waiting.published_at is not None
    receive_heartbeat(plan.client_id, started=True)
    waiting.refresh_from_db()
    assert waiting.published_at is None
