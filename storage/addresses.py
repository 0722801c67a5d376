"""Addresses of endpoints: `host:port`, or the absolute path of a directory."""

import ipaddress
import os
import re

from django.utils.translation import gettext as _

LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})*\.?", re.ASCII)


def clean_address(address: str, *, is_directory: bool) -> str:
    """Return the address in its one spelling. Raises ValueError with a sentence if it is none."""
    if is_directory:
        if not address.startswith("/") or not address.isprintable():
            raise ValueError(_("A directory's address is its absolute path."))
        return "/" + os.path.normpath(address).strip("/")
    host, port = split_address(address)
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(_("A port is a number from 1 to 65535."))
    if not host:
        raise ValueError(_("An object store's address is host:port, without a scheme or a path."))
    return address


def split_address(address: str) -> tuple[str, int | None]:
    """Return host and port of `host`, `host:port` or `[ipv6]:port`; the host is empty if it is none of them."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", address, re.ASCII)
    if match is None:
        return "", None
    host, port = match[1], None if match[2] is None else int(match[2])
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            return "", port
        return host, port
    return (host if HOST.fullmatch(host) else ""), port
