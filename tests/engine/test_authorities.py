"""TLS to a store: its certificate is checked, by the authorities that everybody trusts or by those that are named."""

import os

import pytest

from engine.backends import Credentials, open_store
from engine.backends.connections import Trust
from engine.backends.patience import Patience
from engine.cli.main import main
from engine.errors import AddressRefused, CertificateRefused, EngineError, StoreUnreachable
from engine.store import FileKind
from tests.services.s3 import object_store
from tests.services.tls import Authority, private_key, tls_in_front_of

KEYS = Credentials("key", "secret-key")
AUTHORITY = Authority()


@pytest.fixture
def memory():
    with object_store() as server:
        yield server


@pytest.fixture
def secure(memory):
    """The URL of a store in memory that speaks TLS."""
    with tls_in_front_of(int(memory.url.rpartition(":")[2]), AUTHORITY.issue()) as port:
        yield f"https://localhost:{port}"


def create(url, trust=None):
    store = open_store(f"s3:{url}/bucket", credentials=KEYS, trust=trust, patience=Patience(first_answer_s=0))
    store.create()
    store.close()


def test_a_store_is_spoken_to_whose_certificate_an_authority_that_was_named_has_signed(memory, secure):
    create(secure, Trust(AUTHORITY.pem))
    assert "bucket" in memory.buckets


@pytest.mark.parametrize("trust", [None, Trust(Authority().pem)], ids=["everybody's", "another one"])
def test_a_store_of_an_authority_that_is_not_trusted_is_refused(memory, secure, trust):
    with pytest.raises(CertificateRefused, match="not trusted"):
        create(secure, trust)
    assert memory.requests == []


@pytest.mark.parametrize(("host", "days"), [("elsewhere", 30), ("localhost", -1)], ids=["another host's", "expired"])
def test_a_certificate_that_does_not_fit_is_refused_though_its_authority_is_trusted(memory, host, days):
    front = tls_in_front_of(int(memory.url.rpartition(":")[2]), AUTHORITY.issue(host, days))
    with front as port, pytest.raises(CertificateRefused):
        create(f"https://localhost:{port}", Trust(AUTHORITY.pem))


def test_one_of_several_authorities_is_enough(secure):
    create(secure, Trust(Authority().pem + AUTHORITY.pem))


@pytest.mark.parametrize("pem", ["nonsense", private_key(), AUTHORITY.pem[:200], "ключ"])
def test_authorities_that_are_no_certificates_are_refused_before_anything_is_connected(pem):
    with pytest.raises(EngineError, match="no certificate in PEM"):
        open_store("s3:https://localhost:1/bucket", credentials=KEYS, trust=Trust(pem))


def test_the_command_takes_a_file_of_authorities_by_option_or_by_restics_variable(secure, tmp_path, monkeypatch, capfd):
    file = tmp_path / "authority.pem"
    file.write_text(AUTHORITY.pem)
    for name, value in {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret-key", "RESTIC_PASSWORD": "p"}.items():
        monkeypatch.setenv(name, value)
    assert main(["-r", f"s3:{secure}/bucket", "init"]) == 1
    assert "not trusted" in capfd.readouterr().err
    assert main(["-r", f"s3:{secure}/bucket", "init", "--cacert", str(file)]) == 0
    monkeypatch.setenv("RESTIC_CACERT", str(file))
    assert main(["-r", f"s3:{secure}/bucket", "snapshots"]) == 0
    assert main(["-r", f"s3:{secure}/bucket", "snapshots", "--cacert", str(tmp_path / "missing")]) == 1


def test_who_answers_is_asked_about_before_anything_is_sent_there(memory):
    asked = []

    def admit(address):
        asked.append(address)
        raise AddressRefused("not there")

    with pytest.raises(AddressRefused, match="not there"):
        create(memory.url.replace("127.0.0.1", "localhost"), Trust(admit=admit))
    assert asked == ["127.0.0.1"]
    assert memory.requests == []


def test_whom_one_may_speak_to_answers_all_the_same(memory):
    create(memory.url, Trust(admit=lambda address: None))
    assert "bucket" in memory.buckets


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_no_variable_has_more_say_than_the_authorities_that_were_named(secure, monkeypatch, name):
    monkeypatch.setenv(name, os.devnull)
    create(secure, Trust(AUTHORITY.pem))


@pytest.mark.ceph
def test_a_real_store_behind_tls_keeps_what_it_was_given(ceph_endpoint):
    keys = Credentials(*ceph_endpoint.make_user("engine-authorities"))
    with tls_in_front_of(int(ceph_endpoint.url.rpartition(":")[2]), AUTHORITY.issue()) as port:
        store = open_store(f"s3:https://localhost:{port}/engine-authorities", credentials=keys, trust=Trust(AUTHORITY.pem))
        store.create()
        content = os.urandom(3 << 20)
        store.put(FileKind.DATA, "a" * 64, content)
        assert store.get(FileKind.DATA, "a" * 64) == content
        store.close()


def test_what_does_not_speak_tls_is_told_as_such(memory):
    with pytest.raises(StoreUnreachable, match="HTTPS"):
        create(memory.url.replace("http:", "https:"), Trust(AUTHORITY.pem))
