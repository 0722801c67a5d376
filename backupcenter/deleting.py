"""Deleting what cannot be brought back, in the console: the page says what is lost, and has the name typed before it goes."""

from typing import Any, ClassVar

from django.contrib import messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.functional import Promise
from django.utils.translation import gettext as _


class NameToDelete:
    """For a page of such rows; `lost`: a sentence or two of what goes with one of them. To be named before `ModelAdmin`.

    Of several rows that are selected, how many they are is typed.
    """

    delete_confirmation_template: Any = "console/delete.html"
    delete_selected_confirmation_template: Any = "console/delete_selected.html"
    lost: ClassVar[str | Promise] = ""

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        row: Model | None = self.get_object(request, unquote(object_id))  # type: ignore[attr-defined]
        may_delete = row is not None and self.has_delete_permission(request, row)  # type: ignore[attr-defined]
        if may_delete and request.method == "POST" and not _is_typed(request, str(row)):
            return HttpResponseRedirect(request.get_full_path())
        context = {"lost": self.lost, "to_type": str(row), **(extra_context or {})}
        answer: HttpResponse = super().delete_view(request, object_id, context)  # type: ignore[misc]
        return answer

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        actions: dict[str, Any] = super().get_actions(request)  # type: ignore[misc]
        if "delete_selected" in actions:
            actions["delete_selected"] = (_delete_counted, *actions["delete_selected"][1:])
        return actions


def _delete_counted(page: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    if request.POST.get("post") and not _is_typed(request, str(queryset.count())):
        return None
    answer = delete_selected(page, request, queryset)
    if answer is not None:
        answer.context_data = {**(answer.context_data or {}), "lost": page.lost, "to_type": str(queryset.count())}
    return answer


def _is_typed(request: HttpRequest, wanted: str) -> bool:
    if request.POST.get("typed", "").strip() == wanted.strip():
        return True
    messages.error(request, _("Nothing was deleted: what was typed is not “%(wanted)s”.") % {"wanted": wanted})
    return False
