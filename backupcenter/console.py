"""What the console's pages share: saying that an action was done."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import override

from accounts.audit.acts import note


def tell_done(page: "ModelAdmin[Any]", request: HttpRequest, row: Model, sentence: str | Promise, **names: object) -> None:
    """Tell the person, and for everyone else the row's history, that an action was done.

    `sentence`: lazily translated, with a place for each of `names`.
    """
    note(row)
    page.message_user(request, str(sentence) % names, messages.SUCCESS)
    # The history is kept, so it is in the server's language and not in that of whoever acted.
    with override(settings.LANGUAGE_CODE):
        page.log_change(request, row, str(sentence) % names)
