"""What the history does about news of clients: who falls silent is told, and what one that is cut off has to do ends."""

from contextlib import suppress
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.utils.translation import gettext as _
from django.utils.translation import override

from backupcenter.api.exceptions import Conflict
from clients.broker import Sharing, cut_off_waits, sharing_changed
from clients.leaving import client_cut_off
from clients.models import Client
from clients.presence import agent_started, presence_changed
from records.events import emit
from records.lifecycle import KINDS, end_job
from records.models import ACTIVE_STATES, Event, JobRecord, State
from records.slots import REPOSITORY_OF
from storage.models import Endpoint, Tenant


@receiver(presence_changed)
def tell_presence(sender: Any, client: Client, online: bool, **_extra: Any) -> None:
    level = Event.Level.SUCCESS if online else Event.Level.WARNING
    title = _("%(client)s is back") if online else _("%(client)s does not answer")
    occasion = Event.Occasion.CLIENT_ONLINE if online else Event.Occasion.CLIENT_OFFLINE
    emit(level, Event.Topic.CLIENT, title % {"client": client.hostname}, client=client, occasion=occasion)


@receiver(client_cut_off)
def end_jobs(sender: Any, client: Client, reason: str, knows_shared: bool, **_extra: Any) -> None:
    """End what the client has to do, which nobody can do any more; and say what it knows that is still good."""
    keys: set[str] = set()
    for model in KINDS.values():
        for record in model._default_manager.filter(client=client, state__in=ACTIVE_STATES):
            # One that has ended in the meantime has nothing left to end.
            with suppress(Conflict):
                end_job(record, reason)
        keys |= _tenants_seen(model, client)
    with override(settings.LANGUAGE_CODE):
        title = _("%(client)s was cut off") % {"client": client.hostname}
        if keys:
            advice = _("Its agent knows the store's keys of %(tenants)s. If the host may be in other hands, give them new ones.")
            reason = f"{reason} {advice % {'tenants': ', '.join(sorted(keys))}}"
        if knows_shared:
            shared = _("It also knows the login to the broker that agents share: change that password.")
            reason = f"{reason} {shared}"
        emit(Event.Level.WARNING, Event.Topic.CLIENT, title, reason, client=client, occasion=Event.Occasion.SECURITY)


def _tenants_seen(model: type[JobRecord], client: Client) -> set[str]:
    """Return the tenants of object stores whose keys the client's agent was told with a job."""
    path = f"{REPOSITORY_OF[model]}__tenant"
    claimed = model._default_manager.filter(client=client, start_time__isnull=False).order_by()
    tenants = Tenant.objects.filter(pk__in=claimed.values(path)).exclude(endpoint__type=Endpoint.Type.DIRECTORY)
    return {str(tenant) for tenant in tenants.select_related("endpoint")}


@receiver(sharing_changed)
def tell_sharing(sender: Any, sharing: Sharing, **_extra: Any) -> None:
    with override(settings.LANGUAGE_CODE):
        if sharing is Sharing.NOT:
            emit(Event.Level.SUCCESS, Event.Topic.GENERAL, _("Each agent has a login of its own to the broker"))
        else:
            message = _("%(reason)s. A stolen host could read other clients' queues; docs/operating.md says what Redis needs.")
            title = _("All agents share one login to the broker")
            said = message % {"reason": sharing.label}
            emit(Event.Level.ERROR, Event.Topic.GENERAL, title, said, occasion=Event.Occasion.SECURITY)


@receiver(cut_off_waits)
def tell_waiting(sender: Any, number: int, **_extra: Any) -> None:
    with override(settings.LANGUAGE_CODE):
        title = _("The login of client %(number)d to the broker ends later") % {"number": number}
        message = _("Redis does not answer; the server goes on trying.")
        emit(Event.Level.ERROR, Event.Topic.CLIENT, title, message, occasion=Event.Occasion.SECURITY)


@receiver(agent_started)
def tell_started(sender: Any, client: Client, **_extra: Any) -> None:
    # What the agent had taken from its queue before it was started is not there any more.
    for model in KINDS.values():
        model._default_manager.filter(client=client, state=State.QUEUED).update(published_at=None)
    emit(Event.Level.INFO, Event.Topic.CLIENT, _("The agent of %(client)s was started") % {"client": client.hostname})
