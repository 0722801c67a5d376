"""The wizard's pages: the form, the summary before the plan is made, and the previews that the form shows while it is filled in."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.admin import ModelAdmin

from backupcenter.console import tell_done
from clients.models import Client
from jobs.console.wizard.commands import command_forms, commands_of
from jobs.console.wizard.forms import WizardForm, empty_values, values_of
from jobs.console.wizard.schedule import ScheduleForm
from jobs.fitting import left_of_quota
from jobs.foreseeing import coming_fires, staying_backups
from jobs.looking import cannot_look
from jobs.models import BackupPlan
from jobs.planning import create_plan
from storage.models import Repository

BUCKETS_OFFERED = 200
KEPT_SHOWN = 40
# With which a tenant is added in a window of its own, and is chosen once it is there.
POPUPS = forms.Media(
    js=[f"admin/js/{name}.js" for name in ("vendor/jquery/jquery.min", "jquery.init", "admin/RelatedObjectLookups")]
)


def require_planner(page: ModelAdmin, request: HttpRequest) -> None:
    """Raise PermissionDenied for who may not make plans."""
    if not page.has_add_permission(request):
        raise PermissionDenied


def wizard(page: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """Show the form (`GET`; `?like=` a plan's number begins as that plan is), its summary, or make the plan (`POST`, by `step`)."""
    require_planner(page, request)
    if request.method != "POST":
        return _form_page(page, request, _begun(request))
    step = request.POST.get("step")
    sent = _with_another_command(request.POST) if step == "more" else request.POST
    form = WizardForm(sent, commands=command_forms(sent))
    if not form.is_valid():
        return _form_page(page, request, form, 400)
    if step == "make":
        if (plan := _made(form)) is not None:
            tell_done(page, request, plan, gettext_lazy("%(plan)s is made."), plan=plan)
            return redirect("admin:jobs_backupplan_change", plan.pk)
        return _form_page(page, request, form, 400)
    return _summary_page(page, request, form) if step == "look" else _form_page(page, request, form)


def preview(page: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """Show what the schedule and the rules that are being typed come to: the next fires, and what would stay."""
    require_planner(page, request)
    form = ScheduleForm(request.GET)
    return render(request, "console/wizard/preview.html", _foreseen(form))


def _with_another_command(sent: QueryDict) -> QueryDict:
    """Return what was sent with a further row, for who has no script to add one."""
    more = sent.copy()
    count = sent.get("command-TOTAL_FORMS", "")
    more["command-TOTAL_FORMS"] = str(int(count) + 1) if count.isdecimal() else count
    return more


def _begun(request: HttpRequest) -> WizardForm:
    if request.GET.get("like", "").isdecimal():
        rows = BackupPlan.objects.select_related("client", "tenant", "repository")
        plan = get_object_or_404(rows, pk=int(request.GET["like"]))
        return WizardForm(initial=values_of(plan), commands=command_forms(initial=commands_of(plan)))
    chosen = request.GET.get("client", "")
    return WizardForm(initial={**empty_values(), "client": chosen if chosen.isdecimal() else None}, commands=command_forms())


def _made(form: WizardForm) -> BackupPlan | None:
    place = {name: form.cleaned_data[name] for name in ("client", "tenant", "bucket", "shared")}
    try:
        return create_plan(**place, **form.sent)
    except ValidationError as error:
        form.tell(error.message_dict)
        return None


def _foreseen(form: ScheduleForm) -> dict[str, Any]:
    """Return what the previews show of a bound form."""
    if not form.is_valid():
        sentences = [sentence for name in form.errors for sentence in form.errors[name]]
        return {"unforeseen": sentences}
    now = timezone.now()
    staying = staying_backups(form.plan, now)
    return {
        "plan": form.plan,
        "fires": coming_fires(form.plan, now),
        "staying": staying,
        "kept": staying.kept[:KEPT_SHOWN],
        "more_kept": max(0, len(staying.kept) - KEPT_SHOWN),
    }


def _form_page(page: ModelAdmin, request: HttpRequest, form: WizardForm, status: int = 200) -> HttpResponse:
    previewed = ScheduleForm(form.data if form.is_bound else _as_typed(form))
    chosen = form["client"].value()
    client = Client.objects.filter(pk=chosen).first() if str(chosen or "").isdecimal() else None
    context = {
        **_common(page, request),
        "title": _("Make a plan"),
        "form": form,
        "commands": form.commands,
        "media": POPUPS,
        "buckets": Repository.objects.order_by("bucket").values_list("bucket", flat=True).distinct()[:BUCKETS_OFFERED],
        "allowed": client.allowed if client else [],
        "client": client,
        "may_add_tenant": request.user.has_perm("storage.add_tenant"),
        "may_add_client": request.user.has_perm("clients.add_jointoken"),
        **_foreseen(previewed),
    }
    return render(request, "console/wizard/form.html", context, status=status)


def _as_typed(form: WizardForm) -> dict[str, Any]:
    """Return what an unbound form would send if it was sent as it begins."""
    return {name: form[name].value() for name in ScheduleForm.base_fields if form[name].value() is not None}


def _summary_page(page: ModelAdmin, request: HttpRequest, form: WizardForm) -> HttpResponse:
    foreseen = _foreseen(form)
    context = {
        **_common(page, request),
        "title": _("Make this plan?"),
        "form": form,
        "sent": [(name, value) for name, values in request.POST.lists() if name not in _NOT_SENT_ON for value in values],
        "paths": form.cleaned_data["include"],
        "left_out": form.cleaned_data["exclude"],
        "run": [command for row in form.commands.cleaned_data if (command := row.get("command"))],
        "not_allowed": form.plan.not_allowed,
        "cannot_look": cannot_look(form.plan.client),
        "left": left_of_quota(form.plan),
        "backups": len(foreseen["staying"].kept),
        **foreseen,
    }
    return render(request, "console/wizard/summary.html", context)


_NOT_SENT_ON = {"csrfmiddlewaretoken", "step"}


def _common(page: ModelAdmin, request: HttpRequest) -> dict[str, Any]:
    return {**page.admin_site.each_context(request), "opts": page.opts}
