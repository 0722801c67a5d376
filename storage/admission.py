"""Where an endpoint may lead: which machines the server connects to for a store, and which directories it keeps one in.

Whoever sets an address has the server send requests there, from where it stands in the network ("server-side request forgery").
So only administrators set it, and what is no place for a store is refused: the metadata services of clouds, which hand out keys
to whoever asks, with all link-local addresses, and those that belong to no machine. A name counts as what it resolves to, when
it is saved and again at each connection, by the address that answered: a name may resolve to something else by then.
Private addresses are where stores usually are, and loopback is where one on the same machine is.
"""

import ipaddress
import socket
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from engine.backends.connections import Trust
from engine.errors import AddressRefused
from storage.addresses import split_address
from storage.models import Endpoint

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Those that are not link-local: AWS, Google and Oracle, Alibaba and Azure.
METADATA_ADDRESSES = {
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "192.0.0.192", "100.100.100.200", "168.63.129.16")
}
METADATA_NAMES = {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}
# IPv6 addresses that a gateway translates to the IPv4 address in their last 32 bits (RFC 6052).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
# What is written there would change the system, or is no storage.
SYSTEM_DIRECTORIES = tuple(map(Path, ("/boot", "/dev", "/etc", "/proc", "/sys")))


def require_admissible(endpoint: Endpoint) -> None:
    """Raise AddressRefused if the endpoint leads where no store may be; a name that does not resolve leads nowhere yet."""
    if endpoint.is_directory:
        require_own_directory(endpoint.address)
        return
    host, _port = split_address(endpoint.address)
    if host.rstrip(".").lower() in METADATA_NAMES:
        raise AddressRefused(_("No store is spoken to at %(host)s, the name of a cloud's metadata service.") % {"host": host})
    for address in resolve(host):
        admit(address)


def admit(address: str) -> None:
    """Raise AddressRefused if the server must not speak to this IP address."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    reason = _reason(ip)
    if reason and not any(ip in network for network in settings.STORE_ADDRESSES_ALLOWED if network.version == ip.version):
        message = _("No store is spoken to at %(address)s: %(reason)s. BACKUPCENTER_STORE_ADDRESSES_ALLOWED can allow it.")
        raise AddressRefused(message % {"address": ip, "reason": reason})


def trust_in(endpoint: Endpoint) -> Trust:
    """Return who is taken for the endpoint's store when the server connects to it."""
    return Trust(authorities=endpoint.authorities, admit=admit)


def require_own_directory(path: str) -> None:
    """Raise AddressRefused if a store in this directory would lie in the system's or the server's files, or they in it."""
    place = Path(path).resolve()
    ours = _code_directories()
    outer = [*SYSTEM_DIRECTORIES, *ours]
    inner = [*SYSTEM_DIRECTORIES, *ours, settings.BASE_DIR]
    database = Path(str(connection.settings_dict["NAME"]))
    if connection.vendor == "sqlite" and database.is_file():
        inner.append(database.resolve())
    if any(place.is_relative_to(other) for other in outer) or any(other.is_relative_to(place) for other in inner):
        raise AddressRefused(
            _("A store cannot be kept in the directory %(path)s: the system's or the server's own files are there.")
            % {"path": path}
        )


def _code_directories() -> list[Path]:
    """Return where the server's code and what it serves lie."""
    rooms = [Path(config.path) for config in apps.get_app_configs()]
    rooms += [settings.BASE_DIR / name for name in ("agent", "backupcenter", "engine", "locale", "templates")]
    return [path.resolve() for path in (*rooms, Path(settings.STATIC_ROOT), *map(Path, settings.STATICFILES_DIRS))]


def resolve(host: str) -> list[str]:
    """Return the IP addresses that a host's name stands for now; none if it stands for none."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(entry[4][0]) for entry in found]


def _embedded(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 address leads to, if it is made of one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in TRANSLATED:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo[1] if ip.teredo else None
    return ip.ipv4_mapped or ip.sixtofour or teredo or ip


def _reason(ip: IPAddress) -> str:
    """Return why there can be no store at an address; empty: there can."""
    if ip in METADATA_ADDRESSES:
        return _("it is the address of a cloud's metadata service")
    if ip.is_link_local:
        return _("it is a link-local address, where clouds have their metadata services")
    if ip.is_loopback:
        return ""
    if ip.is_unspecified or ip.is_multicast or ip.is_reserved or ip in THIS_NETWORK:
        return _("it is the address of no single machine")
    return ""

