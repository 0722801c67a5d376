"""What the history does about news of clients: who falls silent is told, what a deleted one has to do is cancelled."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db.models.signals import pre_delete
from django.dispatch import receiver
from django.utils.translation import gettext as _
from django.utils.translation import override

from backupcenter.api.exceptions import Conflict
from clients.models import Client
from clients.presence import heartbeat_received, presence_changed
from records.events import emit
from records.lifecycle import KINDS, cancel_job
from records.models import ACTIVE_STATES, Event, State


@receiver(presence_changed)
def tell_presence(sender: Any, client: Client, online: bool, **_extra: Any) -> None:
    level = Event.Level.SUCCESS if online else Event.Level.WARNING
    title = _("%(client)s is back") if online else _("%(client)s does not answer")
    emit(level, Event.Topic.CLIENT, title % {"client": client.hostname})


@receiver(pre_delete, sender=Client)
def cancel_jobs(sender: Any, instance: Client, **_extra: Any) -> None:
    """Cancel what the client has to do, which nobody could do any more."""
    # Kept with the records, so not in the language of whoever deletes.
    with override(settings.LANGUAGE_CODE):
        reason = _("The client was deleted.")
    for model in KINDS.values():
        for record in model._default_manager.filter(client=instance, state__in=ACTIVE_STATES):
            # One that has ended in the meantime has nothing left to cancel.
            with suppress(Conflict):
                cancel_job(record, reason)


@receiver(heartbeat_received)
def count_queued(sender: Any, client: Client, started: bool, **_extra: Any) -> int:
    if started:
        # What the agent had taken from its queue before it was started is not there any more.
        for model in KINDS.values():
            model._default_manager.filter(client=client, state=State.QUEUED).update(published_at=None)
        emit(Event.Level.INFO, Event.Topic.CLIENT, _("The agent of %(client)s was started") % {"client": client.hostname})
    return sum(model._default_manager.filter(client=client, state=State.QUEUED).count() for model in KINDS.values())
