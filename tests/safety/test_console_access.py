"""Every page and action of the console × caller: who may, does; who may not is refused, and nothing changes.

What is expected stands in `routes.PAGES`, `routes.ACTIONS` and `routes.CONSOLE`. What is not there fails.
"""

from datetime import date
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.test import Client as Browser
from django.test import RequestFactory
from django.urls import reverse

from accounts.models import AuditEntry, Session, Token, User
from jobs.console.acting import ACTS
from jobs.models import AuditReport, OwnBackup, PlanPing
from records.lifecycle import KINDS
from storage.models import UsageSample
from tests.safety.conftest import PEOPLE, World
from tests.safety.routes import ACTIONS, ADMINISTRATOR, ANYBODY, CONSOLE, PAGES, ROLES, includes
from tests.safety.walking import routes, stored_rows

MODELS = {f"{model._meta.app_label}_{model._meta.model_name}": page for model, page in admin.site._registry.items()}
OF_MODELS = ("add", "change", "delete", "history", "changelist")
# A page that refuses may be about to say so in a message, which a session keeps; and that it refused is in the log.
UNWATCHED = ["accounts.Session", "accounts.AuditEntry"]
OF_PLANS = {f"/admin/jobs/backupplan/<int:number>/{act}" for act in ACTS}
ASKING = {f"/admin/jobs/backupplan/wizard/{what}" for what in ("listing", "estimate")}
OF_RECORDS = ("records/{kind}record/<int:number>/cancel", "jobs/backupplan/repeat/{kind}/<int:number>")
OF_DRILLS = "/admin/records/drillrecord/<int:number>/cancel"
OF_JOBS = {f"/admin/{route.format(kind=kind)}" for route in OF_RECORDS for kind in KINDS}
POSTED = {"/admin/logout", *OF_PLANS, *ASKING, *OF_JOBS, OF_DRILLS}
CALLERS = ["nobody", "locked", *PEOPLE]


@pytest.fixture
def browsers(account, world: World) -> dict[str, Browser]:
    """A browser of each caller; the locked account was logged in before it was locked."""
    found = {name: Browser(raise_request_exception=False) for name in CALLERS}
    for name in PEOPLE:
        found[name].force_login(account(name))
    locked = User.objects.create_user("locked out", role=User.Role.ADMINISTRATOR)
    found["locked"].force_login(locked)
    User.objects.filter(pk=locked.pk).update(is_active=False)
    return found


@pytest.fixture
def row(world: World, browsers: dict[str, Browser]) -> Any:
    """Return a function that gives a page's row."""
    known = {
        "accounts_user": world.stranger,
        "accounts_token": Token.objects.filter(user__username="administrator").first(),
        "accounts_session": Session.objects.first(),
        "accounts_auditentry": AuditEntry.objects.create(actor="stranger", action="login", via="api", outcome="done"),
        "storage_endpoint": world.plan.tenant.endpoint,
        "storage_tenant": world.plan.tenant,
        "storage_repository": world.plan.repository,
        "storage_usagesample": UsageSample.objects.create(tenant=world.plan.tenant, day=date(2026, 1, 1), used=1),
        "clients_client": world.plan.client,
        "clients_jointoken": world.join_token,
        "jobs_backupplan": world.plan,
        "records_backuprecord": world.record,
        "records_deletedbackup": world.deleted,
        "records_recoveryrecord": world.recovery,
        "jobs_auditreport": AuditReport.objects.create(month=date(2026, 1, 1), content={}),
        "jobs_plandrill": world.plan.drill,
        "jobs_ownbackup": OwnBackup.objects.create(repository=world.plan.repository),
        "jobs_planping": PlanPing.objects.create(plan=world.plan, address="https://127.0.0.1/check"),
        "records_drillrecord": world.drill,
        "records_event": world.event,
        "records_channel": world.delivery.channel,
        "records_rule": world.delivery.rule,
        "records_delivery": world.delivery,
        "records_maintenancerun": world.run,
        "django_celery_beat_periodictask": world.plan.periodic_task,
    }

    def find(page: str) -> Any:
        assert page in known, f"add a row of {page} to `known` in {__file__}"
        return known[page]

    return find


def test_every_page_and_action_says_who_may_use_it() -> None:
    missing = sorted(set(MODELS) - set(PAGES))
    assert not missing, "say who may use these, a line for each in PAGES of tests/safety/routes.py: " + ", ".join(missing)
    assert not set(PAGES) - set(MODELS), "these pages are no more"
    request = RequestFactory().get("/")
    request.user = User(role=User.Role.ADMINISTRATOR)
    actions = {f"{name}.{action}" for name, page in MODELS.items() for action in page.get_actions(request)}
    of_ours = {action for action in actions if not action.endswith(".delete_selected")}
    assert of_ours == set(ACTIONS), "ACTIONS of tests/safety/routes.py is to name just these"
    others = {
        route
        for route, pattern in routes().items()
        if (route in ("/", "/admin") or route.startswith("/admin/"))
        and not _is_of_a_model(pattern.name or "")
        and not route.endswith("<path:object_id>")
    } | {"/admin/r/<path:content_type_id>/<path:object_id>"}
    assert others == set(CONSOLE), "CONSOLE of tests/safety/routes.py is to name just these"


def _is_of_a_model(name: str) -> bool:
    model, _dash, page = name.rpartition("_")
    return model in MODELS and page in OF_MODELS


def refusal(caller: str, least: str) -> int | None:
    """Return the status with which a caller is refused (302: sent to log in); None: the caller may."""
    if least == ANYBODY or (caller in PEOPLE and includes(caller, least)):
        return None
    return 403 if caller in PEOPLE else 302


def _number(world: World, route: str) -> int:
    if route in OF_PLANS or route.endswith("/retention"):
        return world.plan.pk
    if route == OF_DRILLS:
        return world.drill.pk
    return world.recovery.pk if "recovery" in route else world.record.pk


def is_sent_to_log_in(answer: Any) -> bool:
    return answer.status_code == 302 and answer["Location"].startswith(reverse("admin:login"))


def try_everybody(browsers: dict[str, Browser], method: str, address: str, least: str, form: dict[str, Any] | None = None) -> None:
    """Let each caller ask. Who may gets an answer of its own, which is taken back; who may not changes nothing."""
    before = stored_rows(*UNWATCHED)
    wrong = {}
    for caller, browser in browsers.items():
        expected = refusal(caller, least)
        with transaction.atomic():
            answer = browser.generic(method, address) if form is None else browser.post(address, form)
            transaction.set_rollback(expected is None)
        status = answer.status_code
        if expected is None:
            is_wrong = status not in (200, 302) or is_sent_to_log_in(answer)
        else:
            is_wrong = status != expected or (expected == 302 and not is_sent_to_log_in(answer))
        if is_wrong:
            wrong[caller] = (status, expected)
    assert not wrong, f"{method} {address}: (status, expected refusal) was {wrong}"
    assert stored_rows(*UNWATCHED) == before, f"{method} {address}: somebody who was refused changed something"


@pytest.mark.parametrize("page", sorted(MODELS))
def test_a_models_pages_are_for_those_who_may(world, browsers, row, page) -> None:
    who, key = PAGES[page], row(page).pk
    names = {
        "changelist": who.look,
        "add": who.add,
        "change": who.look,
        "history": who.look,
        "delete": who.delete,
    }
    for name, least in names.items():
        address = reverse(f"admin:{page}_{name}", args=[key] if name in ("change", "history", "delete") else [])
        try_everybody(browsers, "GET", address, least)
    for name, least in {"add": who.add, "change": who.change, "delete": who.delete}.items():
        address = reverse(f"admin:{page}_{name}", args=[key] if name != "add" else [])
        try_everybody(browsers, "POST", address, least, {"post": "yes", "typed": str(row(page))})


@pytest.mark.parametrize("action", [*sorted(ACTIONS), *(f"{page}.delete_selected" for page in sorted(MODELS))])
def test_an_action_is_for_those_who_may(world, browsers, row, action, monkeypatch) -> None:
    page, name = action.split(".")
    least = ACTIONS.get(action) or PAGES[page].delete
    form = {"action": name, "_selected_action": [row(page).pk], "post": "yes", "typed": "1"}
    address = reverse(f"admin:{page}_changelist")
    monkeypatch.setattr("storage.probing.check_endpoint", lambda endpoint: None)
    for caller, browser in browsers.items():
        before = stored_rows(*UNWATCHED)
        with transaction.atomic():
            answer = browser.post(address, form)
            is_changed = stored_rows(*UNWATCHED) != before
            offered = action in _offered(page, caller) if caller in PEOPLE else False
            transaction.set_rollback(True)
        may = caller in PEOPLE and includes(caller, least)
        assert offered == may, f"{action} is offered to {caller}: {offered}"
        assert may or not is_changed, f"{caller} did {action}"
        assert answer.status_code in (200, 302, 403)


def _offered(page: str, caller: str) -> set[str]:
    request = RequestFactory().get("/")
    request.user = User.objects.get(username=caller)
    return {f"{page}.{action}" for action in MODELS[page].get_actions(request)}


@pytest.mark.parametrize("route", sorted(CONSOLE))
def test_a_page_of_no_model_is_for_those_who_may(world, browsers, route) -> None:
    least = CONSOLE[route]
    kind = ContentType.objects.get_for_model(User)
    keys = {
        "<id>": str(world.stranger.pk),
        "<path:content_type_id>": str(kind.pk),
        "<path:object_id>": str(world.stranger.pk),
        "<app_label>": "jobs",
        "<url>": "nowhere",
        "<int:number>": str(_number(world, route)),
    }
    address = route
    for place, key in keys.items():
        address = address.replace(place, key)
    wrong = {}
    for caller, browser in browsers.items():
        with_slash = f"{address.rstrip('/')}/"
        answer = browser.post(with_slash) if route in POSTED else browser.get(with_slash)
        expected = refusal(caller, least)
        if expected is None:
            # Without what it is asked about a page has nothing to show, but does not refuse whoever asks.
            allowed = {200, 302, 404} | ({403} if route == "/admin/autocomplete" else set())
            fits = answer.status_code in allowed and (least == ANYBODY or not is_sent_to_log_in(answer))
        else:
            fits = is_sent_to_log_in(answer) if expected == 302 else answer.status_code == expected
        if not fits:
            wrong[caller] = (answer.status_code, expected)
    assert not wrong, f"{route}: (status, expected refusal) was {wrong}"


@pytest.mark.parametrize("role", ROLES)
def test_neither_search_nor_completion_tells_of_accounts_to_those_who_may_not_see_them(world, browsers, role) -> None:
    found = browsers[role].get(reverse("admin:search"), {"s": "stranger", "extended": "1"})
    completed = browsers[role].get(
        reverse("admin:autocomplete"), {"app_label": "clients", "model_name": "jointoken", "field_name": "client", "term": "host"}
    )
    assert found.status_code == 200
    assert (b"stranger" in found.content.replace(b'value="stranger"', b"")) <= (role == ADMINISTRATOR)
    assert (completed.status_code == 200) == (role == ADMINISTRATOR or PAGES["clients_client"].look != ADMINISTRATOR)
