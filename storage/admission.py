"""Where an endpoint may lead: which machines the server connects to for a store, and which directories it keeps one in.

Whoever sets an address has the server send requests there, from where it stands in the network ("server-side request forgery").
So only administrators set it, and what is no place for a store is refused (`engine.backends.admission`). A name counts as what it
resolves to, when it is saved and again at each connection, by the address that answered: a name may resolve to something else by
then. The engine's own processes, here and on the clients, judge likewise.
"""

import socket
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from engine.backends.admission import Objection, judge
from engine.backends.connections import Trust
from engine.errors import AddressRefused
from storage.addresses import split_address
from storage.models import Endpoint

METADATA_NAMES = {"metadata.google.internal", "metadata.goog", "instance-data.ec2.internal"}
OBJECTIONS = {
    Objection.METADATA: gettext_lazy("it is the address of a cloud's metadata service"),
    Objection.LINK_LOCAL: gettext_lazy("it is a link-local address, where clouds have their metadata services"),
    Objection.NO_MACHINE: gettext_lazy("it is the address of no single machine"),
}
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
    ip, objection = judge(address, settings.STORE_ADDRESSES_ALLOWED)
    if objection:
        message = _("No store is spoken to at %(address)s: %(reason)s. BACKUPCENTER_STORE_ADDRESSES_ALLOWED can allow it.")
        raise AddressRefused(message % {"address": ip, "reason": OBJECTIONS[objection]})


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
