"""Tells people when a client falls silent, and when it is back."""

from typing import Any

from django.dispatch import receiver
from django.utils.translation import gettext as _

from clients.models import Client
from clients.presence import presence_changed
from records.events import emit
from records.models import Event


@receiver(presence_changed)
def tell_presence(sender: Any, client: Client, online: bool, **_extra: Any) -> None:
    level = Event.Level.SUCCESS if online else Event.Level.WARNING
    title = _("%(client)s is back") if online else _("%(client)s does not answer")
    emit(level, Event.Topic.CLIENT, title % {"client": client.hostname})
