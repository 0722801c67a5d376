"""What the wizard shows of a client, as its agent answers: a directory to choose from, and how much a plan would read."""

from datetime import UTC, datetime
from typing import Any, cast

from django import forms
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException
from unfold.admin import ModelAdmin

from accounts.models import User
from backupcenter.api.fields import MAX_TIME
from backupcenter.api.text import storable
from clients.models import Client
from jobs.console.wizard.forms import LinesField
from jobs.console.wizard.pages import require_planner
from jobs.foreseeing import foreseen_cost
from jobs.looking import answer_to, ask_for_estimate, ask_for_listing
from jobs.models import BackupPlan
from jobs.planning import is_path
from jobs.specification import paths_for_agent
from storage.models import Tenant

LISTED_AT_ONCE = 1000
# Until the browser asks for the answer: first, and again.
FIRST_PAUSE_MS, PAUSE_MS = 200, 700


class ListingForm(forms.Form):
    """Which directory. Of the whole page's fields only these are sent."""

    client = forms.ModelChoiceField(Client.objects.all())
    path = forms.CharField(required=False, max_length=4096, strip=False)
    offset = forms.IntegerField(required=False, min_value=0)


class EstimateForm(forms.Form):
    """Of which paths."""

    client = forms.ModelChoiceField(Client.objects.all())
    include = LinesField(1)
    exclude = LinesField(1)


class CostForm(forms.Form):
    """For what an estimate is made: how many backups stay, and where."""

    tenant = forms.ModelChoiceField(Tenant.objects.select_related("endpoint"), required=False)
    backups = forms.IntegerField(required=False, min_value=0)


def ask(page: ModelAdmin, request: HttpRequest, what: str) -> HttpResponse:
    """Ask a client's agent for a `listing` or an `estimate` (`POST`); what is shown asks on until there is an answer."""
    require_planner(page, request)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    form: forms.Form = ListingForm(request.POST) if what == "listing" else EstimateForm(request.POST)
    if not form.is_valid():
        return _shown(request, {"problem": _("Choose a client first.")})
    data, user = form.cleaned_data, cast(User, request.user)
    client: Client = data["client"]
    try:
        if what == "listing":
            number = ask_for_listing(user, client, data["path"] or client.root, data["offset"] or 0)
        elif not data["include"]:
            return _shown(request, {"problem": _("Name a path first.")})
        else:
            number = ask_for_estimate(user, client, **paths_for_agent(client.root, data))
    except APIException as error:
        return _shown(request, {"problem": error.detail})
    return _shown(request, {"number": number, "query": _query(request.POST), "pause_ms": FIRST_PAUSE_MS}, 202)


def answer(page: ModelAdmin, request: HttpRequest, number: str) -> HttpResponse:
    """Show what the agent has answered, or ask on."""
    require_planner(page, request)
    try:
        told = answer_to(cast(User, request.user), number)
    except (APIException, Http404) as error:
        return _shown(request, {"problem": getattr(error, "detail", None) or str(error)})
    if told is None:
        return _shown(request, {"number": number, "query": _query(request.GET), "pause_ms": PAUSE_MS})
    if told["listing"]:
        return render(request, "console/wizard/listing.html", _listing(told["listing"]))
    if told["estimate"]:
        return render(request, "console/wizard/estimate.html", {"estimate": told["estimate"], "cost": _cost(request, told)})
    return _shown(request, {"problem": told["problem"] or _("The agent has not said anything.")})


def _shown(request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return render(request, "console/wizard/waiting.html", context, status=status)


def _query(sent: Any) -> str:
    """Return what an estimate is for, to be asked on with."""
    form = CostForm(sent)
    wanted = {name: sent[name] for name in form.fields if sent.get(name, "").isdecimal()}
    return "&".join(f"{name}={value}" for name, value in wanted.items())


def _cost(request: HttpRequest, told: dict[str, Any]) -> Any:
    form = CostForm(request.GET)
    if not form.is_valid() or form.cleaned_data["tenant"] is None:
        return None
    plan = BackupPlan(tenant=form.cleaned_data["tenant"])
    return foreseen_cost(plan, told["estimate"]["bytes"], form.cleaned_data["backups"] or 1)


def _listing(told: dict[str, Any]) -> dict[str, Any]:
    above = told["path"].rstrip("/")
    parts = [part for part in above.split("/") if part]
    entries = [
        {
            **entry,
            "path": f"{above}/{entry['name']}",
            "is_choosable": _is_choosable(entry),
            "changed": None if entry["mtime"] is None else datetime.fromtimestamp(min(entry["mtime"], MAX_TIME), UTC),
        }
        for entry in told["entries"]
    ]
    following = told["offset"] + len(entries)
    return {
        **told,
        "crumbs": [("/", "/"), *((part, "/" + "/".join(parts[: number + 1])) for number, part in enumerate(parts))],
        "entries": entries,
        "first": told["offset"] + 1,
        "last": following,
        "previous": max(0, told["offset"] - LISTED_AT_ONCE) if told["offset"] else None,
        "following": following if following < told["total"] and entries else None,
    }


def _is_choosable(entry: dict[str, Any]) -> bool:
    """Whether a line of text can name it."""
    name = entry["name"]
    return bool(entry["is_text"]) and name == name.strip() and name.isprintable() and is_path(name) and storable(name) == name
