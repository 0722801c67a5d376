"""How a host joins: a one-time token becomes the agent's own token, which only its client's jobs answer to."""

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from backupcenter.api.exceptions import Conflict
from clients.logins import IssuedLogin, end_logins, issue_login
from clients.models import Client, JoinToken, hash_token


def join_command(token: str) -> str:
    """Return the command that a person runs on the host."""
    # Joined by "=": a token may begin with a dash.
    return f"backupcenter-agent join --center {settings.PUBLIC_URL} --token={token}"


@transaction.atomic
def join(
    token: str,
    *,
    hostname: str,
    ipv4: int | None = None,
    ipv6: str | None = None,
    os: str = "",
    version: str = "",
    is_replaced: bool = True,
) -> tuple[Client, IssuedLogin]:
    """Use up a join token and return the client and the agent's login, of which hashes are stored.

    A token for a certain client joins as that one; any other as the client with one of these addresses, or as a new one.
    `is_replaced`: the agent will ask for its next login in time.
    Raises AuthenticationFailed for a token that is unknown, used or expired, ValidationError, Conflict; then it stays unused.
    """
    now = timezone.now()
    unused = JoinToken.objects.filter(token_hash=hash_token(token), used_at=None, expires_at__gt=now)
    if not unused.update(used_at=now):
        raise AuthenticationFailed(_("The join token is unknown, used or expired."))
    permission = JoinToken.objects.select_related("client").get(token_hash=hash_token(token))
    client = permission.client or _client_at(hostname, ipv4, ipv6)
    client.os, client.version = os, version
    # Of a client that is known only this: it may be changed, or heard of, at this moment.
    client.save(update_fields=["os", "version"] if client.pk else None)
    JoinToken.objects.filter(pk=permission.pk).update(client=client)
    end_logins(client)
    return client, issue_login(client, is_replaced=is_replaced)


def _client_at(hostname: str, ipv4: int | None, ipv6: str | None) -> Client:
    """Return the client with one of these addresses, or a new one that is not stored yet."""
    if ipv4 is None and ipv6 is None:
        raise ValidationError(_("A client needs an IPv4 or an IPv6 address."))
    same = Q(pk__in=[])
    if ipv4 is not None:
        same |= Q(ipv4=ipv4)
    if ipv6 is not None:
        same |= Q(ipv6=ipv6)
    known = list(Client.objects.filter(same))
    if len(known) > 1:
        raise Conflict(_("These addresses belong to two different clients."))
    return known[0] if known else Client(hostname=hostname, ipv4=ipv4, ipv6=ipv6)
