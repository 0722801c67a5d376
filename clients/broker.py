"""Each agent's login to the broker: a user of Redis, `client.N`, who takes messages from the client's own queue and nothing else.

The users live in Redis' memory, as SHA-256 hashes of random passwords; the database has the same hashes (`AgentLogin`), and what
it says counts: `guard` looks every few seconds, and brings back what a restart of Redis has lost. All changes go through
`settle`, one at a time for each client. Where Redis keeps no users (`sharing` says why) agents are given the address that the
settings name, with a login that all of them share.

The rules are those of Redis 6.2 and later: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
"""

import logging
import re
import threading
import time
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

from django.conf import settings
from django.core.cache import cache as shared_cache
from django.db import models, transaction
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from clients.models import AgentLogin, Client, PendingCutOff

log = logging.getLogger(__name__)

# What `agent.transport` needs. A connection says who it is (AUTH, HELLO) before rules apply.
RULES = ("resetchannels", "-@all", "+ping", "+select", "+brpop")
# What some versions of Redis say of every user.
SAID_ANYWAY = {"resetchannels", "sanitize-payload"}
OLDEST_REDIS = (6, 2)
USER = re.compile(r"client\.([0-9]{1,18})")
# No client has this number.
PROBE = "client.0"
TIMEOUT_S = 2.0
COMPARED_EVERY_S = 60.0
BATCH = 500
SHARING = "clients.broker.sharing"
AWAY = (RedisError, OSError)

# Sent with `sharing` when agents begin to share a login, and when that is over.
sharing_changed = Signal()
# Sent with `number` of a client whose login ends later, since the broker does not answer.
cut_off_waits = Signal()


class Sharing(models.TextChoices):
    """Why agents share one login to the broker."""

    NOT = "", _("each agent has a login of its own")
    NO_REDIS = "no redis", _("the broker that agents are sent to is no Redis")
    OLD_REDIS = "old redis", _("Redis is older than 6.2")
    NO_RIGHT = "no right", _("the server's own login may not manage users of Redis (the commands ACL and INFO)")


def address_for(client: Client, password: str) -> str:
    """Return the broker's address with the client's own login; without a password, with the one that all share."""
    if not password:
        return str(settings.AGENT_BROKER_URL)
    parts = urlsplit(settings.AGENT_BROKER_URL)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{client.queue}:{quote(password, safe='')}@{place}").geturl()


def sharing() -> Sharing:
    """Return why agents share one login, as it was last known; as long as it is not, they do not."""
    now = time.monotonic()
    if _known.asked_at is None or now - _known.asked_at > COMPARED_EVERY_S:
        _known.asked_at = now
        try:
            _known.sharing = ask_sharing()
        except AWAY as error:
            log.warning("it is not known whether Redis keeps users: %s", type(error).__name__)
    return _known.sharing


def ask_sharing() -> Sharing:
    """Ask Redis whether each agent can have a login of its own. Raises RedisError, OSError if it does not answer."""
    if urlsplit(settings.AGENT_BROKER_URL).scheme not in ("redis", "rediss"):
        return Sharing.NO_REDIS
    try:
        version = str(_redis().info("server")["redis_version"])
        if tuple(map(int, version.split(".")[:2])) < OLDEST_REDIS:
            return Sharing.OLD_REDIS
        _acl("SETUSER", PROBE, "reset")
        _acl("DELUSER", PROBE)
        _acl("LIST")
    except ResponseError:
        return Sharing.NO_RIGHT
    return Sharing.NOT


def sharing_found() -> Sharing:
    """Return why agents share one login, as `guard` has found last, in whichever process. Raises RedisError, OSError."""
    found = shared_cache.get(SHARING)
    return Sharing(found) if found in Sharing.values else Sharing.NOT


def settle(number: int) -> None:
    """Have Redis know the login of the client with this number as the database does. Raises RedisError, OSError."""
    if sharing() is not Sharing.NOT:
        # There is no user to end, and nothing to wait for.
        PendingCutOff.objects.filter(client_number=number).delete()
        return
    with transaction.atomic():
        # One at a time: who reads what is current writes last.
        list(Client.objects.select_for_update().filter(pk=number).values_list("pk"))
        hashes = _hashes(AgentLogin.objects.filter(client=number)).get(number)
        # Ending the user ends its connections.
        pending = PendingCutOff.objects.filter(client_number=number)
        if hashes is None or pending.exists():
            _acl("DELUSER", f"client.{number}")
        if hashes is not None:
            _acl(*_command(number, hashes))
        pending.delete()


def settle_later(number: int) -> None:
    """Settle once the transaction is committed; should Redis be away then, `guard` does it."""
    transaction.on_commit(lambda: _try_to_settle(number), robust=True)


def cut_off_later(number: int) -> None:
    """End the client's login to the broker, with its connections, once the transaction is committed. Survives a crash."""
    PendingCutOff.objects.bulk_create([PendingCutOff(client_number=number)], ignore_conflicts=True)
    transaction.on_commit(lambda: _try_to_settle(number, tell=True), robust=True)


def guard() -> None:
    """Do one round: end what is still to end, and bring back what Redis does not know any more. Does nothing while it is away."""
    with _guarding:
        try:
            for number in list(PendingCutOff.objects.values_list("client_number", flat=True)):
                settle(number)
            run = str(_redis().info("server").get("run_id")) if _known.sharing is Sharing.NOT else ""
            now = time.monotonic()
            if _known.compared_at is None or run != _known.run or now - _known.compared_at > COMPARED_EVERY_S:
                _note(ask_sharing())
                if _known.sharing is Sharing.NOT:
                    restore()
                _known.compared_at, _known.run = now, run
        except AWAY as error:
            log.warning("logins to the broker were not looked at: %s", type(error).__name__)


def restore() -> int:
    """Compare all users of Redis that are agents' with the database and mend what differs; return how much did.

    Raises RedisError, OSError.
    """
    differing = _differing()
    if len(differing) > BATCH:
        # A restart has lost them all. What was changed meanwhile is put right one by one below.
        hashes = _hashes(AgentLogin.objects.all())
        for start in range(0, len(differing), BATCH):
            with _redis().pipeline(transaction=False) as pipe:
                for number in differing[start : start + BATCH]:
                    if number in hashes:
                        _acl(*_command(number, hashes[number]), to=pipe)
                pipe.execute()
    for number in _differing() if len(differing) > BATCH else differing:
        settle(number)
    if differing:
        log.info("logins to the broker: %d were brought up to date", len(differing))
    return len(differing)


class _Known:
    """What this process has last seen of Redis. `run`: Redis' own name of what began with its start."""

    asked_at: float | None = None
    sharing: Sharing = Sharing.NOT
    compared_at: float | None = None
    run: str = ""


def _try_to_settle(number: int, *, tell: bool = False) -> None:
    try:
        settle(number)
    except AWAY as error:
        log.warning("client=%d its login to the broker changes later: %s", number, type(error).__name__)
        if tell:
            cut_off_waits.send_robust(Client, number=number)


def _note(now: Sharing) -> None:
    """Keep what was found, and tell once if it is news to all processes."""
    _known.sharing, _known.asked_at = now, time.monotonic()
    before = shared_cache.get(SHARING)
    if before == now.value:
        return
    shared_cache.set(SHARING, now.value, timeout=None)
    if before is not None or now is not Sharing.NOT:
        sharing_changed.send_robust(Sharing, sharing=now)


def _hashes(logins: models.QuerySet[AgentLogin]) -> dict[int, set[str]]:
    """Return by client the hashes of the passwords that are good now."""
    good = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    found: dict[int, set[str]] = {}
    for number, password in logins.filter(good).exclude(broker_hash="").values_list("client_id", "broker_hash"):
        found.setdefault(number, set()).add(password)
    return found


def _differing() -> list[int]:
    """Return the numbers of the clients of whose login Redis knows something else than the database."""
    wanted = {number: _described(number, hashes) for number, hashes in _hashes(AgentLogin.objects.all()).items()}
    present: dict[int, set[str]] = {}
    for line in _acl("LIST"):
        _user, name, *said = line.decode().split(" ")
        if match := USER.fullmatch(name):
            present[int(match[1])] = set(said) - SAID_ANYWAY
    return sorted(number for number in wanted.keys() | present.keys() if wanted.get(number) != present.get(number))


def _described(number: int, hashes: set[str]) -> set[str]:
    return {*_command(number, hashes)[3:]} - SAID_ANYWAY


def _command(number: int, hashes: set[str]) -> list[str]:
    passwords = [f"#{each}" for each in sorted(hashes)]
    return ["SETUSER", f"client.{number}", "reset", "on", *passwords, f"~client.{number}", *RULES]


def _acl(*words: str, to: "Redis | None" = None) -> Any:
    """Run a command on users; `to`: a pipeline."""
    return (_redis() if to is None else to).execute_command("ACL", *words)  # type: ignore[no-untyped-call]


@cache
def _connection(url: str) -> "Redis":
    timeouts = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
    return Redis.from_url(url, retry=Retry(NoBackoff(), 1), **timeouts)


def _redis() -> "Redis":
    return _connection(settings.CELERY_BROKER_URL)


_known = _Known()
_guarding = threading.Lock()
