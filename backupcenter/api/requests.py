"""What the API takes: JSON in UTF-8 of bounded size, whatever `Accept` says; answers are JSON."""

import codecs
from collections.abc import Awaitable, Callable, Iterable
from typing import IO, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from backupcenter.api.exceptions import BodyTooLarge

MAX_BODY_BYTES = 16 << 20
CHARSETS = {"utf-8", "ascii", "iso8859-1", "utf-8-sig"}


class JSONParser(parsers.JSONParser):
    """JSON of at most 16 MiB that is not nested beyond reason."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> dict[str, Any]:
        try:
            return super().parse(_Bounded(stream), media_type, parser_context)  # type: ignore[arg-type, no-any-return]
        except RecursionError as error:
            raise ParseError(_("JSON parse error - it is nested too deeply.")) from error


class _Bounded:
    """A stream that ends with an error when it goes on for too long."""

    def __init__(self, stream: IO[Any]) -> None:
        self._stream = stream
        self._left = MAX_BODY_BYTES

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise BodyTooLarge
        return data


class JSONNegotiation(DefaultContentNegotiation):
    """Answers in the view's own format without a look at `Accept`: there is no other to choose."""

    def select_renderer(self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None) -> Any:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class TextEncodingMiddleware:
    """Refuses bodies in exotic charsets (415), some of which are not even encodings of text, before anyone decodes."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if not _is_text(request.encoding):
            refusal = JsonResponse({"error": _("The request's charset must be UTF-8.")}, status=415)
            return _soon(refusal) if self._is_async else refusal
        answer: HttpResponseBase | Awaitable[HttpResponseBase] = self.get_response(request)
        return answer


async def _soon(response: HttpResponseBase) -> HttpResponseBase:
    return response


def _is_text(charset: str | None) -> bool:
    return charset is None or codecs.lookup(charset).name in CHARSETS
