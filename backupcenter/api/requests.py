"""What the API takes: JSON in UTF-8 of bounded size, whatever `Accept` says; answers are JSON."""

from collections.abc import Iterable
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from backupcenter.api.exceptions import BodyTooLarge

MAX_BODY_BYTES = 16 << 20


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
