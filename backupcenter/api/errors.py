"""Failures as the API answers them: `{"error": "<one sentence>"}`, with `"fields": {name: [..]}` beside a 400.

This is the one place where an exception becomes an HTTP answer. Unknown routes and what fails before a view is reached
answer in the same form.
"""

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.core.exceptions import ValidationError as InvalidModel
from django.db import IntegrityError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.utils.encoding import force_str
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.fields import get_error_detail
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from backupcenter.api.exceptions import Conflict
from engine.errors import (
    BucketMissing,
    EngineError,
    FileMissing,
    PathNotFound,
    RepositoryExists,
    RepositoryLocked,
    RepositoryNotFound,
    SnapshotNotFound,
)

NAMED_USERS = 5


def handle_exception(exception: Exception, context: dict[str, Any]) -> Response | None:
    """Return the answer for an exception that a view raised; None: a fault of ours, which is a 500."""
    response = exception_handler(_as_api_exception(exception), context)
    if response is None:
        return None
    detail = response.data
    if isinstance(detail, dict) and set(detail) == {"detail"}:
        response.data = {"error": _sentence(_flatten(detail["detail"]))}
    else:
        fields = _flatten(detail)
        named = {name: messages for name, messages in fields.items() if name}
        response.data = {"error": _sentence(fields), **({"fields": named} if named else {})}
    return response


def _as_api_exception(exception: Exception) -> Exception:
    """Translate what models, the database and the engine raise into the HTTP failure that it means."""
    match exception:
        case InvalidModel():
            return exceptions.ValidationError(get_error_detail(exception))
        case Http404() if isinstance(exception.__context__, ObjectDoesNotExist):
            # Django's own sentence names a class, in English.
            return exceptions.NotFound(_("There is no such object."))
        case ProtectedError():
            return Conflict(_in_use(exception.protected_objects))
        case RestrictedError():
            return Conflict(_in_use(exception.restricted_objects))
        case IntegrityError():
            return Conflict(_("This conflicts with something that was stored in the meantime."))
        case SnapshotNotFound() | PathNotFound() | FileMissing() | BucketMissing() | RepositoryNotFound():
            return exceptions.NotFound(str(exception))
        case RepositoryLocked() | RepositoryExists():
            return Conflict(str(exception))
        case EngineError():
            failure = exceptions.APIException(str(exception))
            failure.status_code = status.HTTP_502_BAD_GATEWAY
            return failure
        case _:
            return exception


def _in_use(users: set[Any]) -> str:
    names = sorted({f"{user._meta.verbose_name} {user}" for user in users})
    shown = ", ".join(names[:NAMED_USERS])
    if len(names) > NAMED_USERS:
        more = len(names) - NAMED_USERS
        shown = ngettext("%(names)s and %(more)d more", "%(names)s and %(more)d more", more) % {
            "names": shown,
            "more": more,
        }
    return _("It is still used by: %(names)s.") % {"names": shown}


def _flatten(detail: Any) -> dict[str, list[str]]:
    """Return messages by field name; nested names are joined by dots, and "" stands for the whole body."""
    fields: dict[str, list[str]] = {}
    for name, message in _walk(detail, ""):
        fields.setdefault(name, []).append(message)
    return fields


def _walk(detail: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            is_whole = key in (api_settings.NON_FIELD_ERRORS_KEY, "__all__")
            yield from _walk(value, name if is_whole else f"{name}.{key}" if name else str(key))
    elif isinstance(detail, list | tuple):
        for value in detail:
            yield from _walk(value, name)
    else:
        # A message may quote what was sent, and JSON can carry halves of characters that no encoding can.
        yield name, force_str(detail).encode("utf-8", "replace").decode()


def _sentence(fields: dict[str, list[str]]) -> str:
    name, messages = next(iter(fields.items()), ("", [_("The request is not valid.")]))
    return f"{name}: {messages[0]}" if name else messages[0]


def _is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/api/", "/login", "/logout")) or request.path == "/api"


def _json(error: str, status_code: int) -> JsonResponse:
    return JsonResponse({"error": error}, status=status_code, json_dumps_params={"ensure_ascii": False})


@csrf_exempt
def unknown_route(request: HttpRequest) -> HttpResponse:
    """Answer a path below /api that names nothing."""
    return _json(_("There is nothing at this address."), 404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _json(_("The request is malformed."), 400)
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _json(_("You may not do this."), 403)
    return defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_api(request):
        return _json(_("There is nothing at this address."), 404)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_api(request):
        return _json(_("The server failed; its log says more."), 500)
    return defaults.server_error(request)
