"""An agent's login: a token for the server and a password for the broker, replaced together from time to time.

The next login is good beside the present one from when it is issued; with its first use it has arrived, and the others end. So an
agent that loses an answer, or dies before it has written it down, goes on with what it has and asks again. Whoever steals a login
has it until the agent's next one, or is noticed by the agent being refused.
"""

import logging
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from clients.broker import AWAY, Sharing, address_for, cut_off_later, settle, settle_later, sharing
from clients.models import AgentLogin, Client, hash_token

log = logging.getLogger(__name__)

# Of logins that were issued and not used; an answer may have been lost and its request repeated.
UNUSED_KEPT = 2
# An agent that cannot use the shared login to the broker may ask for what is now in its place so often.
REFUSED_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class IssuedLogin:
    """A login in clear, for the answer to its agent. `broker`: the address with the password."""

    token: str = field(repr=False)
    broker: str = field(repr=False)


def issue_login(client: Client, *, is_replaced: bool = True) -> IssuedLogin:
    """Give the client's agent one more login, beside what it has. `is_replaced`: its agent will ask for the next one in time."""
    token, password = secrets.token_urlsafe(32), ""
    expires_at = None
    if is_replaced:
        if sharing() is Sharing.NOT:
            password = secrets.token_urlsafe(32)
        if settings.AGENT_LOGIN_LIFETIME_S:
            expires_at = timezone.now() + timedelta(seconds=settings.AGENT_LOGIN_LIFETIME_S)
    with transaction.atomic():
        broker_hash = hash_token(password) if password else ""
        AgentLogin.objects.create(client=client, token_hash=hash_token(token), broker_hash=broker_hash, expires_at=expires_at)
        unused = client.logins.filter(used_at=None).order_by("-pk").values_list("pk", flat=True)
        AgentLogin.objects.filter(pk__in=list(unused[UNUSED_KEPT:])).delete()
        settle_later(client.pk)
    return IssuedLogin(token, address_for(client, password))


def find_login(token: str) -> AgentLogin | None:
    """Return the login of a token that is good; the first time the logins before it end."""
    # Asked for with every request of an agent, most of which have no use for what is known of its client.
    login = next(iter(AgentLogin.objects.filter(token_hash=hash_token(token))), None)
    if login is None or (login.expires_at is not None and login.expires_at <= timezone.now()):
        return None
    if login.used_at is None:
        _confirm(login)
    return login


def end_logins(client: Client) -> None:
    """End all logins of the client at once, and its agent's connections to the broker."""
    with transaction.atomic():
        client.logins.all().delete()
        cut_off_later(client.pk)


def is_next_due(login: AgentLogin, *, broker_refused: bool = False) -> bool:
    """Whether the login's agent is to ask for the next one. `broker_refused`: it cannot get to the broker with this one."""
    has_own, may_have_own = bool(login.broker_hash), sharing() is Sharing.NOT
    if login.is_due or has_own != may_have_own:
        return True
    return broker_refused and not has_own and login.created_at < timezone.now() - timedelta(seconds=REFUSED_EVERY_S)


def mend_login(client: Client) -> None:
    """Let the client's agent into the broker again, which has refused it."""
    try:
        settle(client.pk)
    except AWAY as error:
        log.warning("client=%d its login to the broker was not mended: %s", client.pk, type(error).__name__)


def _confirm(login: AgentLogin) -> None:
    with transaction.atomic():
        if AgentLogin.objects.filter(pk=login.pk, used_at=None).update(used_at=timezone.now()):
            others = AgentLogin.objects.filter(client=login.client_id).exclude(pk=login.pk)
            ended = others.delete()[0]
            log.info("client=%d has a new login, %d before it have ended", login.client_id, ended)
            settle_later(login.client_id)
