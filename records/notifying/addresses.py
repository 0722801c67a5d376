"""Where a channel may lead: the server sends requests there, so that what is refused to stores is refused to channels too."""

from urllib.parse import parse_qsl, urlsplit

from apprise import Apprise, NotifyBase
from django.utils.translation import gettext as _

from engine.errors import AddressRefused
from records.notifying.models import Channel
from storage.admission import METADATA_NAMES, admit, resolve

# They speak to the server's own machine, or read its files.
LOCAL_SCHEMES = {"syslog", "dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "rsyslog", "file"}
FILE_OPTIONS = {"keyfile", "template", "pgpkey", "identity", "cert", "key"}


class ChannelRefused(Exception):
    """A channel's address cannot be used; the text says why, without the address."""


def require_usable(channel: Channel) -> None:
    """Raise ChannelRefused if the channel's address is none, or leads where nobody is to be told."""
    if channel.kind == Channel.Kind.WEBHOOK:
        require_web_address(channel.address)
    else:
        service_of(channel)


def require_web_address(address: str) -> None:
    """Raise ChannelRefused if the address is none of the web's, or leads where nobody is to be told."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ChannelRefused(_("The address must begin with https:// or http:// and name a host."))
    _admit_host(parts.hostname)


def service_of(channel: Channel) -> NotifyBase:
    """Return the service that an Apprise address stands for. Raises ChannelRefused."""
    parts = urlsplit(channel.address)
    options = {name.lower().lstrip("+-:") for name, _value in parse_qsl(parts.query)}
    if parts.scheme.lower() in LOCAL_SCHEMES or options & FILE_OPTIONS:
        raise ChannelRefused(_("This kind of address would reach into the server's own machine."))
    service = Apprise.instantiate(channel.address, suppress_exceptions=True)
    if not isinstance(service, NotifyBase):
        raise ChannelRefused(_("Apprise does not understand this address; docs/notifications.md shows some."))
    for host in {service.host, getattr(service, "smtp_host", None)} - {None, ""}:
        _admit_host(str(host))
    return service


def _admit_host(host: str) -> None:
    try:
        if host.rstrip(".").lower() in METADATA_NAMES:
            raise ChannelRefused(_("Nobody is told at %(host)s, the name of a cloud's metadata service.") % {"host": host})
        for address in resolve(host):
            admit(address)
    except AddressRefused as error:
        raise ChannelRefused(str(error)) from error
