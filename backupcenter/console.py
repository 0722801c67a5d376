"""What the console's pages share: being for looking only, saying that an action was done, going back to where it was asked for."""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import override
from django.views.decorators.csrf import csrf_protect

from accounts.audit.acts import note


class LookOnly:
    """For a page of rows that nobody adds, changes or deletes by hand. To be named before `ModelAdmin`."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ActionsOnPage:
    """For a page of rows whose own pages have buttons for what the list can do with them. To be named before `ModelAdmin`.

    `page_actions`: the names of actions, with what their buttons say.
    """

    change_form_outer_before_template = "console/actions.html"
    page_actions: ClassVar[dict[str, str | Promise]] = {}

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        if context.get("original") is not None:
            allowed = self.get_actions(request)  # type: ignore[attr-defined]
            context["page_actions"] = [(name, label) for name, label in self.page_actions.items() if name in allowed]
        return super().render_change_form(request, context, *arguments, **options)  # type: ignore[misc]


def tell_done(page: "ModelAdmin[Any]", request: HttpRequest, row: Model, sentence: str | Promise, **names: object) -> None:
    """Tell the person, and for everyone else the row's history, that an action was done.

    `sentence`: lazily translated, with a place for each of `names`.
    """
    note(row)
    page.message_user(request, str(sentence) % names, messages.SUCCESS)
    # The history is kept, so it is in the server's language and not in that of whoever acted.
    with override(settings.LANGUAGE_CODE):
        page.log_change(request, row, str(sentence) % names)


def came_from(request: HttpRequest) -> str:
    """Return the address of the page that a button was on, empty if it is none of ours."""
    address = request.META.get("HTTP_REFERER", "")
    is_ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if is_ours else ""


class OutsideTransaction(ModelAdmin):  # type: ignore[type-arg]
    """A page that saves outside of the transaction which Django's pages have: what it calls has its own.

    A repository that was made on a store must not lose its password because something failed later.
    """

    @method_decorator(csrf_protect)
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        return self._changeform_view(request, object_id, form_url, extra_context)  # type: ignore[attr-defined]
