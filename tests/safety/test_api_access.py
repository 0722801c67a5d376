"""Every route of the API × method × caller × whose object: who may, does; who may not is refused, and nothing changes.

What is expected stands in `routes.API`. A route that is not there fails.
"""

import pytest
from django.db import transaction
from django.test import Client as Browser
from django.urls import URLPattern

from records.visitors import admit
from tests.safety.conftest import AGENTS, PEOPLE, REFUSED, World
from tests.safety.routes import AGENT, ANYBODY, API, OWN_JOB, Account, includes
from tests.safety.walking import METHODS, methods, routes, stored_rows

SERVED = {
    f"{method} {route}": pattern
    for route, pattern in routes().items()
    if hasattr(pattern.callback, "cls")
    for method in methods(pattern)
}
# A token that has expired may be removed; and who was refused is in the log.
UNWATCHED = ["knox.AuthToken", "accounts.AuditEntry"]
# Asked for a role; not a caller of this answers it (`records.stream` does).
BESIDE_DJANGO = "GET /api/event"


def test_every_route_says_who_may_use_it() -> None:
    missing = sorted(set(SERVED) - set(API))
    assert not missing, "say who may use these, a line for each in API of tests/safety/routes.py: " + ", ".join(missing)
    assert not set(API) - set(SERVED) - {BESIDE_DJANGO}, "these routes are no more"


def test_every_route_of_the_document_is_served(api) -> None:
    document = api("administrator").get("/api/schema?format=json").json()
    described = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    unnamed = {operation.replace("{", "<").replace("}", ">").replace("<id>", "<pk>") for operation in described}
    assert unnamed == set(API) - {"GET /api/schema", "GET /api/docs"}


def expected(rule: str | Account, caller: str, *, is_own: bool) -> int | None:
    """Return the status with which a caller is refused; None: the caller may."""
    if rule == ANYBODY:
        return None
    if rule in (AGENT, OWN_JOB):
        if caller not in AGENTS:
            return 401
        return None if rule == AGENT or is_own else 404
    if caller not in PEOPLE:
        return 401
    if isinstance(rule, Account):
        return None if is_own or caller == "administrator" else rule.refusal
    return None if includes(caller, str(rule)) else 403


def ask(world: World, method: str, address: str, caller: str) -> int:
    browser = Browser(raise_request_exception=False)
    headers = {"Authorization": world.authorization[caller]} if world.authorization[caller] else {}
    # A report is read before its job is looked for; one that cannot be would be refused for that.
    data = '{"attempt": 1, "progress": {}}' if address.endswith("/progress") else "{}"
    body = {} if method in ("GET", "HEAD", "OPTIONS") else {"data": data, "content_type": "application/json"}
    return int(browser.generic(method, address, headers=headers, **body).status_code)


@pytest.mark.parametrize("operation", sorted(set(API) & set(SERVED)))
def test_who_may_does_and_who_may_not_changes_nothing(world, operation) -> None:
    method, route = operation.split()
    rule = API[operation]
    asked = [
        (sent, caller, is_own)
        for sent in ((method, "HEAD") if method == "GET" else (method,))
        for caller in [*PEOPLE, *AGENTS, *REFUSED]
        for is_own in ((True, False) if isinstance(rule, Account) else (caller != "other agent",))
    ]
    wrong, answers = {}, set()
    before = stored_rows(*UNWATCHED)
    for sent, caller, is_own in asked:
        address = world.address(route, caller if is_own and caller in PEOPLE else world.stranger.username)
        refusal = expected(rule, caller, is_own=is_own)
        with transaction.atomic():
            status = ask(world, sent, address, caller)
            transaction.set_rollback(refusal is None)
        if refusal is None:
            answers.add(status)
        if (status in (401, 403, 405) or status >= 500) if refusal is None else status != refusal:
            wrong[sent, caller, "own" if is_own else "foreign"] = (status, refusal)
    assert not wrong, f"{operation}: (status, expected refusal) was {wrong}"
    assert stored_rows(*UNWATCHED) == before, "somebody who was refused changed something"
    assert len(answers) == 1 or isinstance(rule, Account) or operation == "POST /api/agent/join", answers


@pytest.mark.parametrize("route", sorted({operation.split()[1] for operation in SERVED}))
def test_no_route_takes_another_method(world, route) -> None:
    pattern: URLPattern = routes()[route]
    others = set(METHODS) - set(methods(pattern)) - ({"HEAD"} if "GET" in methods(pattern) else set())
    address = world.address(route, "administrator")
    before = stored_rows(*UNWATCHED)
    caller = "agent" if route.startswith("/api/agent") else "administrator"
    assert {method: ask(world, method, address, caller) for method in others} == dict.fromkeys(others, 405)
    assert stored_rows(*UNWATCHED) == before


@pytest.mark.parametrize("operation", sorted(set(API) & set(SERVED)))
def test_no_answer_is_stored_on_its_way(world, operation) -> None:
    method, route = operation.split()
    caller = "agent" if API[operation] in (AGENT, OWN_JOB) else "administrator"
    for who in (caller, "nobody"):
        headers = {"Authorization": world.authorization[who]} if world.authorization[who] else {}
        address = world.address(route, "administrator")
        answer = Browser().generic(method, address, "{}", content_type="application/json", headers=headers)
        assert "no-store" in answer["Cache-Control"], who


def test_events_are_for_those_who_are_logged_in(world) -> None:
    admitted = {caller for caller, header in world.authorization.items() if admit({"authorization": header}, "") is not None}
    assert admitted == set(PEOPLE)


def test_a_secret_key_is_for_administrators(world) -> None:
    world.plan.tenant.secret_key = "the store's secret"
    world.plan.tenant.save()
    routes_of_tenants = ["/api/tenant", world.address("/api/tenant/<username>", ""), "/api/backup", "/api/record/backup"]
    for caller in PEOPLE:
        shown = {
            address
            for address in routes_of_tenants
            if b"the store's secret" in Browser().get(address, headers={"Authorization": world.authorization[caller]}).content
        }
        assert shown == (set(routes_of_tenants[:2]) if caller == "administrator" else set())
