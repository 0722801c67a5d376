"""How a host joins: a one-time token becomes the agent's own token, which only its client's jobs answer to.

An address is no proof of who somebody is: hosts share one behind a router, and say of themselves what they like. So a token that is
bound to no client makes a new one, or gives a client its first agent; to replace an agent takes a token for its client.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from backupcenter.api.exceptions import Conflict
from clients.logins import IssuedLogin, end_logins, issue_login
from clients.models import Client, JoinToken, hash_token

# So long an agent that has lost the answer may ask for it again.
REPEATABLE = timedelta(minutes=10)


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
    nonce: str = "",
) -> tuple[Client, IssuedLogin]:
    """Use up a join token and return the client and the agent's login, of which hashes are stored.

    A token for a certain client joins as that one; any other as the client with one of these addresses, if it has never had an
    agent, or as a new one. `is_replaced`: the agent will ask for its next login in time. `nonce`: chosen at random by the agent,
    which may repeat the request with it if the answer was lost.
    Raises AuthenticationFailed for a token that is unknown, used or expired, ValidationError, Conflict; then it stays unused.
    """
    now = timezone.now()
    unused = JoinToken.objects.filter(token_hash=hash_token(token), used_at=None, expires_at__gt=now)
    if not unused.update(used_at=now):
        if (joined := _joined_with(token, nonce, now)) is not None:
            return joined, issue_login(joined, is_replaced=is_replaced)
        raise AuthenticationFailed(_("The join token is unknown, used or expired."))
    permission = JoinToken.objects.select_related("client").get(token_hash=hash_token(token))
    client = permission.client or _client_at(hostname, ipv4, ipv6)
    client.os, client.version = os, version
    # Of a client that is known only this: it may be changed, or heard of, at this moment.
    try:
        with transaction.atomic():
            client.save(update_fields=["os", "version"] if client.pk else None)
    except IntegrityError as error:
        raise Conflict(_("Another host is joining with the same address.")) from error
    # It opens nothing any more; with the nonce it says who has used it.
    JoinToken.objects.filter(pk=permission.pk).update(client=client, token_hash=_used_hash(token, nonce))
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
    # Their lock, so that of two that join at once one sees the other.
    known = list(Client.objects.select_for_update().filter(same))
    if len(known) > 1:
        raise Conflict(_("These addresses belong to two different clients."))
    if not known:
        return Client(hostname=hostname, ipv4=ipv4, ipv6=ipv6)
    if _has_joined(known[0]):
        sentence = _(
            "%(client)s has joined with the address %(address)s already. If this is the same host, issue a join token for that "
            "client; if it is another one behind the same address, make a client for it with an address of its own first."
        )
        raise Conflict(sentence % {"client": known[0].hostname, "address": known[0].address})
    return known[0]


def _has_joined(client: Client) -> bool:
    is_known = client.last_seen is not None or client.logins.exists()
    return is_known or client.join_tokens.filter(used_at__isnull=False).exists()


def _joined_with(token: str, nonce: str, now: datetime) -> Client | None:
    """Return the client that an agent joined as just now with this token and nonce, unless it has its login, or lost it since."""
    if not nonce:
        return None
    used = JoinToken.objects.filter(token_hash=_used_hash(token, nonce), used_at__gt=now - REPEATABLE).select_related("client")
    permission = used.first()
    if permission is None or permission.client is None or permission.used_at is None:
        return None
    client = Client.objects.select_for_update().get(pk=permission.client.pk)
    arrived = [login.used_at is not None for login in client.logins.all()]
    is_newest = not client.join_tokens.filter(used_at__gt=permission.used_at).exists()
    return client if is_newest and arrived and not any(arrived) else None


def _used_hash(token: str, nonce: str) -> str:
    # Neither holds a blank.
    return hash_token(f"{token} {nonce}")
