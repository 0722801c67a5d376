"""Middleware that keeps an audit log of requests: everything that changes something or is refused, and what views mark.

A view may say `audited_reads` (names of its actions that only read, but what they hand out counts) and `is_audited = False` (its
changes have a history of their own). Of what nobody we know asks for only attempts to get in are kept: anybody could fill the log.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.audit.acts import Act, acting
from accounts.models import AuditEntry
from accounts.throttling import client_address

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
CONSOLE_LOGIN = "admin:login"
REFUSALS = {401, 403, 429}

Respond = Callable[[HttpRequest], HttpResponseBase]


def audit(get_response: Respond) -> Respond:
    def respond(request: HttpRequest) -> HttpResponseBase:
        with acting(_begin(request)) as act:
            response = get_response(request)
        if _may_count(request, response):
            _end(request, response, act)
        return response

    return respond


def _begin(request: HttpRequest) -> Act:
    via = AuditEntry.Via.CONSOLE if request.path.startswith("/admin") else AuditEntry.Via.API
    return Act(via=via, address=client_address(request), path=request.path)


def _may_count(request: HttpRequest, response: HttpResponseBase) -> bool:
    view = _view(request)
    if not getattr(view, "is_audited", True):
        return False
    if request.method not in SAFE_METHODS or response.status_code == 403:
        return True
    return _action(request) in getattr(view, "audited_reads", ())


def _end(request: HttpRequest, response: HttpResponseBase, act: Act) -> None:
    user: Any = getattr(request, "user", None)
    if not act.actor and user is not None and user.is_authenticated:
        act.actor = user.get_username()
    match = request.resolver_match
    is_login = match is not None and match.view_name in ("login", "agent-join", CONSOLE_LOGIN)
    outcome = _outcome(request, response, act, is_login=is_login)
    if act.is_repeated or (not act.actor and not (is_login and outcome in (AuditEntry.Outcome.DONE, AuditEntry.Outcome.REFUSED))):
        return
    route = match.url_name if match and match.url_name else request.path
    act.action = f"{route}.{_action(request)}" if act.via == AuditEntry.Via.API else f"{route}.{_console_action(request)}"
    act.record(outcome, response.status_code)


def _outcome(request: HttpRequest, response: HttpResponseBase, act: Act, *, is_login: bool) -> str:
    status = response.status_code
    if status in REFUSALS:
        return AuditEntry.Outcome.REFUSED
    if status >= 500:
        return AuditEntry.Outcome.FAILED
    if act.via == AuditEntry.Via.CONSOLE and status == 200 and request.method == "POST":
        # A form that was not taken, or a page that asks whether one is sure, is shown again; what was done leads elsewhere.
        return AuditEntry.Outcome.REFUSED if is_login else AuditEntry.Outcome.INVALID
    return AuditEntry.Outcome.INVALID if status >= 400 else AuditEntry.Outcome.DONE


def _view(request: HttpRequest) -> Any:
    return getattr(request.resolver_match.func, "cls", None) if request.resolver_match else None


def _action(request: HttpRequest) -> str:
    method = (request.method or "").lower()
    actions = getattr(request.resolver_match.func, "actions", None) if request.resolver_match else None
    return str((actions or {}).get("get" if method == "head" else method, method))


def _console_action(request: HttpRequest) -> str:
    chosen = request.POST.get("action", "") if request.method == "POST" else ""
    return chosen if chosen.isidentifier() else (request.method or "").lower()
