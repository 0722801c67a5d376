"""People are told once when a client falls silent, and once when it is back."""

from datetime import timedelta

from django.utils import timezone

from clients.models import Client
from clients.presence import touch, watch_presence
from records.models import Event


def test_silence_and_return_are_events_of_the_client(db) -> None:
    client = Client.objects.create(ipv4=1, hostname="client1", last_seen=timezone.now() - timedelta(days=1))
    watch_presence()
    watch_presence()
    touch(client)
    touch(client)
    assert list(Event.objects.order_by("pk").values_list("level", "topic", "title")) == [
        (Event.Level.WARNING, Event.Topic.CLIENT, "client1 does not answer"),
        (Event.Level.SUCCESS, Event.Topic.CLIENT, "client1 is back"),
    ]
