"""Where an endpoint may lead: metadata services and the server's own files are no stores, whatever name they go by."""

import ipaddress
import socket
from pathlib import Path

import pytest
from django.conf import settings as server

from agent import child
from engine.backends.patience import Patience
from engine.errors import AddressRefused
from engine.store import FileKind
from storage.admission import admit
from storage.models import Endpoint, Repository, Tenant
from storage.probing import check_endpoint
from storage.repositories import repository_access, repository_store
from storage.tenants import refresh_tenants
from tests.storage.scripted_store import scripted_store

REFUSED = [
    "169.254.169.254",
    "169.254.0.1:80",
    "[fe80::1]:80",
    "[fd00:ec2::254]",
    "[FD00:EC2:0:0:0:0:0:254]:80",
    "[fd20:ce::254]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "metadata.google.internal",
    "Metadata.Google.Internal.:80",
    "0.0.0.0:7480",
    "0.1.2.3",
    "[::]:80",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
    "[::ffff:169.254.169.254]:80",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[::169.254.169.254]",
    # As programs in C read an address: one number, and octal ones.
    "2852039166:80",
    "0251.0376.0251.0376",
]
ADMITTED = ["127.0.0.1:1", "[::1]:1", "10.0.0.1", "192.168.1.101:7480", "172.16.0.1", "[fd12::1]", "8.8.8.8", "[64:ff9b::808:808]"]


@pytest.fixture
def resolving(monkeypatch):
    """Return a function that has every name resolve to these addresses from now on."""

    def resolve(*addresses):
        def answer(host, port, *arguments, **options):
            kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
            found = [ipaddress.ip_address(address) for address in addresses]
            return [(kinds[ip.version], socket.SOCK_STREAM, 6, "", (str(ip), port or 0)) for ip in found]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return resolve


def post(client, address, **fields):
    body = {"address": address, "https": False, "type": 0, "display_name": "", **fields}
    return client.post("/api/endpoint?check=false", body, format="json")


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_no_store_has_is_refused(api, address):
    answer = post(api("administrator"), address)
    assert answer.status_code == 400
    assert "No store is spoken to" in answer.json()["fields"]["address"][0]
    assert not Endpoint.objects.exists()


@pytest.mark.parametrize("address", ADMITTED)
def test_an_address_that_a_store_may_have_is_taken(api, address):
    assert post(api("administrator"), address).status_code == 201


def test_a_name_is_refused_if_one_of_its_addresses_is(api, resolving):
    resolving("8.8.8.8", "169.254.169.254")
    answer = post(api("administrator"), "store.example")
    assert answer.status_code == 400
    assert "169.254.169.254" in answer.json()["error"]


def test_a_change_is_refused_too_and_leaves_what_was(api, db):
    Endpoint.objects.create(address="10.0.0.1:80")
    answer = api("administrator").put("/api/endpoint/10.0.0.1:80?check=false", {"address": "169.254.169.254"}, format="json")
    assert answer.status_code == 400
    assert Endpoint.objects.get().address == "10.0.0.1:80"


def test_the_reason_is_told_in_the_language_of_whoever_asks(api, db):
    client = api("administrator")
    body = {"address": "169.254.169.254", "type": 0}
    answer = client.post("/api/endpoint", body, format="json", headers={"accept-language": "zh-hans"})
    assert "链路本地" in answer.json()["error"]


def test_a_setting_allows_what_would_be_refused(api, settings, resolving):
    settings.STORE_ADDRESSES_ALLOWED = [ipaddress.ip_network("169.254.10.0/24"), ipaddress.ip_network("fd00:ec2::/32")]
    assert post(api("administrator"), "169.254.10.5:80").status_code == 201
    assert post(api("administrator"), "169.254.169.254").status_code == 400
    admit("fd00:ec2::254")


def test_a_name_that_leads_elsewhere_once_it_is_saved_is_refused_when_it_is_connected(api, db, resolving, monkeypatch):
    """The name resolves to a harmless address whenever somebody looks, and the connection leads to another."""
    with scripted_store() as store:
        monkeypatch.setattr("engine.backends.admission.METADATA_ADDRESSES", {ipaddress.ip_address("127.0.0.1")})
        resolving("8.8.8.8")
        port = store.address.rpartition(":")[2]
        assert post(api("administrator"), f"store.example:{port}").status_code == 201
        endpoint = Endpoint.objects.get()
        resolving("127.0.0.1")
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.1"):
            check_endpoint(endpoint)
        tenant = Tenant.objects.create(endpoint=endpoint, username="user", access_key="a", secret_key="s")
        refresh_tenants([tenant])
        assert "metadata service" in tenant.refresh_error
        row = Repository.objects.create(tenant=tenant, bucket="bucket", password="p")
        repository = repository_store(row, Patience(first_answer_s=0))
        with pytest.raises(AddressRefused):
            repository.create()
        assert store.requests == []


def test_the_engines_own_process_refuses_it_too_and_knows_the_exceptions(db, resolving, monkeypatch, settings):
    """Which drills, and backs up the server's database."""
    with scripted_store() as store:
        monkeypatch.setattr("engine.backends.admission.METADATA_ADDRESSES", {ipaddress.ip_address("127.0.0.1")})
        port = store.address.rpartition(":")[2]
        endpoint = Endpoint.objects.create(address=f"store.example:{port}", https=False)
        tenant = Tenant.objects.create(endpoint=endpoint, username="user", access_key="a", secret_key="s")
        row = Repository.objects.create(tenant=tenant, bucket="bucket", password="p")
        resolving("127.0.0.1")
        with pytest.raises(AddressRefused, match=r"no store is spoken to at 127\.0\.0\.1: it is the address of a cloud's"):
            child._store(repository_access(row, tenant.credentials), tenant.credentials).get(FileKind.CONFIG, "")
        assert store.requests == []
        settings.STORE_ADDRESSES_ALLOWED = [ipaddress.ip_network("127.0.0.0/8")]
        child._store(repository_access(row, tenant.credentials), tenant.credentials).get(FileKind.CONFIG, "")
        assert store.requests != []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(api, db, store, status):
    with scripted_store() as other:
        store.redirect = (status, f"http://{other.address}/latest/meta-data/")
        endpoint = Endpoint.objects.create(address=store.address, https=False)
        check_endpoint(endpoint)
        body = {"endpoint": {"address": endpoint.address}, "access_key": "key", "secret_key": "secret"}
        assert api("administrator").post("/api/tenant", body, format="json").status_code == 400
        assert other.requests == []


@pytest.mark.parametrize("path", ["/", "/etc", "/proc/self", "/sys", "/dev/shm", "/etc/../etc/ssl"])
def test_no_store_is_kept_among_the_systems_files(api, path):
    assert post(api("administrator"), path, type=2).status_code == 400


def test_no_store_is_kept_among_the_servers_files_nor_around_them(api, tmp_path, settings):
    base = server.BASE_DIR
    (tmp_path / "link").symlink_to(base / "engine")
    for path in (base, base.parent, base / "engine", base / "storage" / "migrations", base / "static", tmp_path / "link"):
        answer = post(api("administrator"), str(path), type=2)
        assert answer.status_code == 400, path
        assert "own files" in answer.json()["error"]
    assert post(api("administrator"), str(base / "state" / "store"), type=2).status_code == 201


def test_no_store_is_kept_around_the_servers_database(api, tmp_path, monkeypatch):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "backupcenter.sqlite3").write_bytes(b"")
    client = api("administrator")
    monkeypatch.setattr("storage.admission.connection", _Connection(tmp_path / "state" / "backupcenter.sqlite3"))
    for path in (tmp_path, tmp_path / "state"):
        assert post(client, str(path), type=2).status_code == 400
    assert post(client, str(tmp_path / "state" / "store"), type=2).status_code == 201


def test_a_directory_that_has_become_another_is_refused_when_it_is_used(db, tmp_path):
    place = tmp_path / "store"
    place.mkdir()
    endpoint = Endpoint.objects.create(address=str(place), type=2)
    row = Repository.objects.create(tenant=Tenant.objects.create(endpoint=endpoint, username="u"), bucket="b", password="p")
    repository_store(row)
    place.rmdir()
    place.symlink_to("/etc")
    with pytest.raises(AddressRefused):
        repository_store(row)
    with pytest.raises(AddressRefused):
        check_endpoint(endpoint)


class _Connection:
    vendor = "sqlite"

    def __init__(self, file: Path) -> None:
        self.settings_dict = {"NAME": str(file)}
