"""Whatever a caller sends, the API answers with a status that its OpenAPI document names, and never with a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from engine.errors import StoreUnreachable

EXAMPLES = 50


@pytest.fixture
def api_document(api, populated, monkeypatch):
    """The document as the server gives it, and a server whose generated addresses lead nowhere."""
    from django.core.wsgi import get_wsgi_application

    def nothing_answers(*arguments: object, **options: object) -> None:
        raise StoreUnreachable("nothing answers there")

    monkeypatch.setattr("storage.probing.check_endpoint", nothing_answers)
    monkeypatch.setattr("storage.probing.describe_tenant", nothing_answers)
    document = schemathesis.openapi.from_wsgi("/api/schema?format=json", get_wsgi_application())
    # Answered before Django; tests/records covers it.
    return document.exclude(path="/api/event")


@pytest.fixture
def populated(db, tmp_path):
    """A row of each kind, so that generated requests reach past the look-up."""
    from tests import factories

    client = factories.make_client()
    plan = factories.make_plan(client=client, directory=tmp_path)
    factories.make_record(plan)
    return plan


schema = schemathesis.pytest.from_fixture("api_document")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_documented(case, api) -> None:
    authorization = api("administrator")._credentials["HTTP_AUTHORIZATION"]
    case.call_and_validate(
        headers={"Authorization": authorization},
        checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
    )
