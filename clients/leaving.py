"""How a client goes: its logins end at once, at the server and the broker, and other rooms hear of it.

What the broker could not be told is kept (`PendingCutOff`) and told again by `clients.broker.guard`.
"""

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.signals import pre_delete
from django.dispatch import Signal, receiver
from django.utils.translation import gettext as _
from django.utils.translation import override

from clients.logins import end_logins
from clients.models import Client

# Sent with `client`, `reason` and `knows_shared` (its agent has the login to the broker that all share), in the transaction in
# which it is cut off.
client_cut_off = Signal()


def revoke(client: Client) -> None:
    """End what the client's agent and its unused join tokens open: the host has to join again."""
    with transaction.atomic():
        client.join_tokens.filter(used_at=None).delete()
        # Kept with its jobs, so not in the language of whoever does it.
        with override(settings.LANGUAGE_CODE):
            _cut_off(client, _("The agent's login was revoked."))


@receiver(pre_delete, sender=Client)
def cut_off_deleted(sender: Any, instance: Client, **_extra: Any) -> None:
    with override(settings.LANGUAGE_CODE):
        _cut_off(instance, _("The client was deleted."))


def _cut_off(client: Client, reason: str) -> None:
    knows_shared = client.logins.filter(broker_hash="").exists()
    end_logins(client)
    client_cut_off.send(Client, client=client, reason=reason, knows_shared=knows_shared)
