"""Which IP addresses no store has: those of clouds' metadata services, which hand out keys to whoever asks, with all that are
link-local, and those that belong to no single machine. Private and loopback addresses are where stores usually are.
"""

import ipaddress
from collections.abc import Callable, Iterable
from enum import Enum

from engine.errors import AddressRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Those that are not link-local: AWS, Google and Oracle, Alibaba and Azure.
METADATA_ADDRESSES = {
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "fd20:ce::254", "192.0.0.192", "100.100.100.200", "168.63.129.16")
}
# IPv6 addresses that a gateway translates to the IPv4 address in their last 32 bits (RFC 6052).
TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")


class Objection(Enum):
    """Why there can be no store at an address."""

    METADATA = "it is the address of a cloud's metadata service"
    LINK_LOCAL = "it is a link-local address, where clouds have their metadata services"
    NO_MACHINE = "it is the address of no single machine"


def judge(address: str, allowed: Iterable[IPNetwork] = ()) -> tuple[IPAddress, Objection | None]:
    """Return which address is meant by this one, and what there is against it, unless it is in a network that is allowed."""
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    objection = _objection(ip)
    if objection and any(ip in network for network in allowed if network.version == ip.version):
        return ip, None
    return ip, objection


def admitting(allowed: Iterable[str]) -> Callable[[str], None]:
    """Return what raises AddressRefused for an address that no store has, other than in these networks."""
    networks = [ipaddress.ip_network(text) for text in allowed]

    def admit(address: str) -> None:
        ip, objection = judge(address, networks)
        if objection:
            raise AddressRefused(f"no store is spoken to at {ip}: {objection.value}")

    return admit


def _embedded(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 address leads to, if it is made of one."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in TRANSLATED:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    teredo = ip.teredo[1] if ip.teredo else None
    return ip.ipv4_mapped or ip.sixtofour or teredo or ip


def _objection(ip: IPAddress) -> Objection | None:
    if ip in METADATA_ADDRESSES:
        return Objection.METADATA
    if ip.is_link_local:
        return Objection.LINK_LOCAL
    if ip.is_loopback:
        return None
    if ip.is_unspecified or ip.is_multicast or ip.is_reserved or ip in THIS_NETWORK:
        return Objection.NO_MACHINE
    return None
