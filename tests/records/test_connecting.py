"""Nobody is told where nobody may be, whatever a name stood for when it was looked at, and wherever a service sends us on."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest
from django.utils import timezone

from engine.errors import AddressRefused
from jobs.models import PlanPing
from jobs.pinging import send_due_pings, set_ping
from records.notifying.connecting import admitted_connections
from records.notifying.models import Channel
from records.notifying.sending import send_test
from records.notifying.speaking import NotTold
from tests.factories import make_plan
from tests.services.receiver import receiver

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "service.example"
FORBIDDEN = "127.0.0.2"


@pytest.fixture
def forbidden(monkeypatch) -> Iterator[socket.socket]:
    """Something that listens on this machine, at an address where nobody may be told."""
    monkeypatch.setattr("engine.backends.admission.METADATA_ADDRESSES", {ipaddress.ip_address(FORBIDDEN)})
    with socket.create_server((FORBIDDEN, 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.fixture
def rebinding(monkeypatch) -> None:
    """Whoever looks the name up is told a public address, and whoever connects to it the forbidden one."""
    real = socket.getaddrinfo

    def answer(host, port, *arguments, **options):
        stands_for = FORBIDDEN if port else "8.8.8.8"
        return real(stands_for if host == NAME else host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def port_of(listener: socket.socket) -> int:
    return listener.getsockname()[1]


def has_visitor(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("webhook", "http://{host}/"),
        ("webhook", "https://{host}/"),
        ("apprise", "json://{host}/"),
        ("apprise", "jsons://{host}/"),
        ("apprise", "mailto://user:word@{host}?to=a@example.com"),
    ],
)
def test_a_name_that_leads_elsewhere_when_it_is_connected_is_told_nothing(forbidden, rebinding, kind, address):
    channel = Channel(name="x", kind=kind, address=address.format(host=f"{NAME}:{port_of(forbidden)}"), secret="whsec_" + "a" * 32)
    with pytest.raises(NotTold, match=r"127\.0\.0\.2.*metadata service"):
        send_test(channel)
    assert not has_visitor(forbidden)


def test_a_ping_is_not_sent_to_a_name_that_leads_elsewhere_when_it_is_connected(tmp_path, forbidden, rebinding):
    set_ping(make_plan(tmp_path), f"http://{NAME}:{port_of(forbidden)}/ping")
    PlanPing.objects.update(signal=PlanPing.Signal.SUCCESS, due_at=timezone.now())
    send_due_pings()
    assert FORBIDDEN in PlanPing.objects.get().error
    assert not has_visitor(forbidden)


def test_a_service_that_sends_us_on_to_a_forbidden_address_is_not_followed(forbidden):
    with receiver() as service:
        service.status, service.place = 307, f"http://{FORBIDDEN}:{port_of(forbidden)}/latest"
        with pytest.raises(NotTold, match=r"127\.0\.0\.2"):
            send_test(Channel(name="people", kind="apprise", address=f"json://{service.host}/"))
        with pytest.raises(NotTold, match="307"):
            send_test(Channel(name="program", kind="webhook", address=f"http://{service.host}/", secret="whsec_" + "a" * 32))
        assert len(service.got) == 2
    assert not has_visitor(forbidden)


def test_a_datagram_goes_nowhere_either_and_a_name_is_not_left_to_the_kernels_library(forbidden):
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as stream:
        with admitted_connections():
            with pytest.raises(AddressRefused):
                datagrams.sendto(b"x", (FORBIDDEN, 9))
            with pytest.raises(AddressRefused, match="localhost"):
                stream.connect(("localhost", port_of(forbidden)))
        stream.connect((FORBIDDEN, port_of(forbidden)))
    assert has_visitor(forbidden)
