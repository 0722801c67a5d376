"""What the history does about news of clients: it tells people who fell silent, and agents what waits for them."""

from typing import Any

from django.dispatch import receiver
from django.utils.translation import gettext as _

from clients.models import Client
from clients.presence import heartbeat_received, presence_changed
from records.events import emit
from records.lifecycle import KINDS
from records.models import Event, State


@receiver(presence_changed)
def tell_presence(sender: Any, client: Client, online: bool, **_extra: Any) -> None:
    level = Event.Level.SUCCESS if online else Event.Level.WARNING
    title = _("%(client)s is back") if online else _("%(client)s does not answer")
    emit(level, Event.Topic.CLIENT, title % {"client": client.hostname})


@receiver(heartbeat_received)
def count_queued(sender: Any, client: Client, **_extra: Any) -> int:
    return sum(model._default_manager.filter(client=client, state=State.QUEUED).count() for model in KINDS.values())
