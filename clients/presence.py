"""Who is there: agents say so with each heartbeat, and a client that falls silent is reported once.

Other rooms listen to the signals; this one knows nothing of them.
"""

from datetime import timedelta

from django.conf import settings
from django.dispatch import Signal
from django.utils import timezone

from clients.models import Client

# Sent with `client` and `online` when a client that was there falls silent, and when it is back.
presence_changed = Signal()
# Sent with `client` and `running` (names of jobs); a receiver may return how many jobs wait for the client.
heartbeat_received = Signal()


def touch(client: Client, *, version: str | None = None, os: str | None = None, load: float | None = None) -> None:
    """Note that the client's agent was heard of just now."""
    said = {name: value for name, value in {"version": version, "os": os, "load": load}.items() if value is not None}
    Client.objects.filter(pk=client.pk).update(last_seen=timezone.now(), **said)
    if Client.objects.filter(pk=client.pk, is_offline_reported=True).update(is_offline_reported=False):
        presence_changed.send_robust(Client, client=client, online=True)


def receive_heartbeat(client: Client, *, version: str | None, os: str | None, load: float | None, running: list[str]) -> int:
    """Note a heartbeat and return how many jobs wait for the client."""
    touch(client, version=version, os=os, load=load)
    answers = heartbeat_received.send_robust(Client, client=client, running=running)
    return sum(waiting for _receiver, waiting in answers if type(waiting) is int)


def watch_presence() -> int:
    """Report clients that have fallen silent since the last look; return how many."""
    silent_since = timezone.now() - timedelta(seconds=settings.CLIENT_OFFLINE_S)
    reported = 0
    for client in Client.objects.filter(last_seen__lt=silent_since, is_offline_reported=False):
        # Another watcher, or a heartbeat, may have come first.
        silent = Client.objects.filter(pk=client.pk, last_seen__lt=silent_since, is_offline_reported=False)
        if silent.update(is_offline_reported=True):
            presence_changed.send_robust(Client, client=client, online=False)
            reported += 1
    return reported
