"""Where connections may lead while somebody is told: judged by the address itself, as the socket connects to it.

A name may have stood for another address when it was looked at, a redirect may name a new one, and Apprise connects by itself, in
as many ways as it has services. All of them end in `socket.connect`, of which Python tells its audit hooks (PEP 578) before it
happens; a hook that raises prevents it. Behind a proxy the address is the proxy's.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from ipaddress import ip_address
from typing import Any

from django.utils.translation import gettext as _

from engine.errors import AddressRefused
from storage.admission import admit

# Of this thread alone: the server's other connections lead where its settings say.
_is_judged = ContextVar("connections are judged", default=False)


@contextmanager
def admitted_connections() -> Iterator[None]:
    """Have this thread connect to addresses that are admitted alone, else raise AddressRefused with nothing sent."""
    _listen()
    token = _is_judged.set(True)
    try:
        yield
    finally:
        _is_judged.reset(token)


@cache
def _listen() -> None:
    # A hook cannot be taken away again, so there is one, from the first time on that somebody is told.
    sys.addaudithook(_judge)


def _judge(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg") or not _is_judged.get():
        return
    # Sockets of the machine's own have paths; one that is connected already sends to none.
    destination = arguments[1]
    if not isinstance(destination, tuple):
        return
    host = str(destination[0])
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        # The kernel's library would resolve it once more, unseen.
        raise AddressRefused(_("Nobody is told at %(host)s, which is a name and no IP address.") % {"host": host}) from None
    admit(host)
