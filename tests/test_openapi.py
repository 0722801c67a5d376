"""Whatever a caller sends, the API answers with a status that its OpenAPI document names, and never with a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from engine.errors import StoreUnreachable

# For each operation, half of them as the document allows, half as it does not.
EXAMPLES = 30


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


def test_every_answer_is_documented(api, api_document) -> None:
    for operation in api_document.get_all_operations():
        # Both what the document allows and what it does not.
        for mode in GenerationMode:
            try:
                exercise(operation.ok().as_strategy(generation_mode=mode), api)
            except Unsatisfiable:
                # Nothing that this operation takes can be sent wrongly.
                assert mode is GenerationMode.NEGATIVE


def exercise(cases, api) -> None:
    """Send generated cases of one operation, each with a token of its own: some of them log out."""

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES // len(GenerationMode),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def send(case) -> None:
        authorization = api("administrator")._credentials["HTTP_AUTHORIZATION"]
        case.call_and_validate(
            headers={"Authorization": authorization},
            checks=[not_a_server_error, status_code_conformance, response_schema_conformance],
        )

    send()
