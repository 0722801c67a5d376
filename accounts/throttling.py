"""How often one address may fail to log in before it has to wait.

Each attempt is counted before the password is looked at, so that many at once gain nothing, and a success takes its count
back. The counters live in the cache; when the cache is away, logging in still works and is not throttled.
"""

import hashlib
import ipaddress
import logging

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from redis.exceptions import RedisError
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts.audit.acts import current_act, note_attempt

log = logging.getLogger(__name__)

# An address may fail more often with many names than with one: an office shares an address.
NAMES_PER_ADDRESS = 5


def count_attempt(request: HttpRequest | Request, username: str) -> None:
    """Count an attempt to log in. Raises Throttled (429) when there were too many."""
    note_attempt(username)
    address = client_address(request)
    limit = settings.LOGIN_ATTEMPTS
    try:
        by_name = _increment(_key(address, username))
        by_address = _increment(_key(address))
    except (RedisError, OSError) as error:
        log.warning("attempts to log in are not counted, the cache is away: %s", type(error).__name__)
        return
    excess = max(by_name - limit, by_address - limit * NAMES_PER_ADDRESS)
    if excess > 0:
        if act := current_act():
            act.is_repeated = excess > 1
        raise Throttled(wait=settings.LOGIN_WINDOW_S)


def forget_attempts(request: HttpRequest | Request, username: str) -> None:
    """Take back what `count_attempt` counted, after a success."""
    address = client_address(request)
    try:
        cache.delete(_key(address, username))
        cache.decr(_key(address))
    except ValueError:
        # The window ended in between.
        pass
    except (RedisError, OSError):
        log.warning("attempts to log in are not counted, the cache is away")


def client_address(request: HttpRequest | Request) -> str | None:
    """Return the address that a request comes from, None if it comes from none (a local socket)."""
    # It reads nothing but META, which both kinds of request have.
    text = BaseThrottle().get_ident(request)  # type: ignore[arg-type]
    try:
        return str(ipaddress.ip_address(text or ""))
    except ValueError:
        return None


def _increment(key: str) -> int:
    cache.add(key, 0, timeout=settings.LOGIN_WINDOW_S)
    try:
        return cache.incr(key)
    except ValueError:
        # The window ended between the two calls.
        return 1


def _key(address: str | None, username: str = "") -> str:
    # Hashed: a cache key takes no blanks and no names of any length.
    return "login:" + hashlib.sha256(f"{_network(address)}\0{username}".encode()).hexdigest()


def _network(address: str | None) -> str:
    """Return an IPv4 address as it is, of an IPv6 address the first half: whoever has one has all that begin with it."""
    if address is None or ":" not in address:
        return address or ""
    return str(ipaddress.ip_network((address, 64), strict=False))
