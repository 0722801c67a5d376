"""What the console's pages share: being for looking only, saying that an action was done, going back to where it was asked for."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import override

from accounts.audit.acts import note


class LookOnly:
    """For a page of rows that nobody adds, changes or deletes by hand. To be named before `ModelAdmin`."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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
