"""An endpoint whose certificate a private authority has signed, from the API to the job of an agent."""

import pytest

from agent.child import _store
from engine.backends import Credentials, open_store
from engine.errors import CertificateRefused, WrongPassword
from engine.repository import Repository as EngineRepository
from engine.store import FileKind
from jobs.planning import run_plan
from jobs.specification import job_specification
from storage.models import Endpoint, Tenant
from tests.factories import make_client, make_plan
from tests.services.s3 import object_store
from tests.services.tls import Authority, private_key, tls_in_front_of

AUTHORITY = Authority()


@pytest.fixture
def secure():
    """The address of a store in memory that speaks TLS."""
    with object_store() as memory, tls_in_front_of(int(memory.url.rpartition(":")[2]), AUTHORITY.issue()) as port:
        yield f"localhost:{port}"


def post(api, address, **fields):
    return api("administrator").post("/api/endpoint", {"address": address, "https": True, "type": 1, **fields}, format="json")


def test_a_store_of_a_private_authority_is_registered_with_its_certificate_and_not_without(api, secure):
    refused = post(api, secure)
    assert refused.status_code == 400
    assert "not trusted" in refused.json()["error"]
    assert post(api, secure, authorities=Authority().pem).status_code == 400
    assert post(api, secure, authorities=AUTHORITY.pem).status_code == 201
    endpoint = Endpoint.objects.get()
    assert endpoint.authorities.strip() == AUTHORITY.pem.strip()
    (told,) = api("viewer").get("/api/endpoint").json()
    assert told["authorities_end"] == int(AUTHORITY.expires.timestamp())


@pytest.mark.parametrize("text", ["no certificate", private_key(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_refused_and_changes_nothing(api, secure, text):
    answer = post(api, secure, authorities=text)
    assert (answer.status_code, Endpoint.objects.count()) == (400, 0)
    assert "certificate" in answer.json()["error"]


def test_an_agent_is_told_the_authorities_and_keeps_to_them(db, secure):
    told = {"location": f"s3:https://{secure}/bucket", "authorities": AUTHORITY.pem}
    keys = Credentials("key", "secret-key")
    store = _store(told, keys)
    store.create()
    assert not store.exists(FileKind.CONFIG, "")
    with pytest.raises(CertificateRefused):
        _store({**told, "authorities": Authority().pem}, keys).create()


def test_a_job_has_the_agents_keys_and_the_endpoints_authorities(tmp_path, db):
    plan = make_plan(tmp_path, client=make_client())
    tenant = plan.repository.tenant
    Endpoint.objects.filter(pk=tenant.endpoint_id).update(type=Endpoint.Type.S3, authorities=AUTHORITY.pem)
    Tenant.objects.filter(pk=tenant.pk).update(access_key="owner", secret_key="owners-secret", agent_access_key="agent")
    tenant.refresh_from_db()
    tenant.agent_secret_key = "agents-secret"
    tenant.save()

    told = job_specification(run_plan(plan))
    assert told["repository"]["authorities"] == AUTHORITY.pem
    assert (told["repository"]["access_key"], told["repository"]["secret_key"]) == ("agent", "agents-secret")
    assert "owner" not in str(told)


def test_no_host_is_told_what_opens_the_backups_of_another_unless_a_plan_shares_them(tmp_path, db):
    own = [job_specification(run_plan(make_plan(tmp_path, client=make_client())))["repository"] for _ in range(2)]
    assert own[0]["location"] != own[1]["location"]
    assert own[0]["password"] != own[1]["password"]
    for told, other in (own, reversed(own)):
        with pytest.raises(WrongPassword):
            EngineRepository.open(open_store(other["location"]), told["password"])
    shared = [job_specification(run_plan(make_plan(tmp_path, client=make_client(), shared=True))) for _ in range(2)]
    assert shared[0]["repository"] == shared[1]["repository"]
