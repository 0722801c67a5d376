"""What the history does about news from the rooms below: it knows of them, they do not know of it."""

from typing import Any

from django.dispatch import receiver
from django.utils.translation import gettext as _

from clients.models import Client
from clients.presence import heartbeat_received, presence_changed
from records.events import emit
from records.lifecycle import KINDS
from records.models import Event, State


@receiver(presence_changed, dispatch_uid="tell presence")
def tell_presence(client: Client, online: bool, **_rest: Any) -> None:
    level = Event.Level.INFO if online else Event.Level.WARNING
    title = _("Client %(client)s is back") if online else _("Client %(client)s does not answer")
    emit(level, Event.Topic.CLIENT, title % {"client": client})


@receiver(heartbeat_received, dispatch_uid="count queued jobs")
def count_queued(client: Client, **_rest: Any) -> int:
    return sum(model._default_manager.filter(client=client, state=State.QUEUED).count() for model in KINDS.values())
