"""Paged lists: `{"page": 1, "total_page": 10, "total": 193, "Data": [...]}`, newest first."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response

from backupcenter.counting import EstimatingPaginator

# Python itself refuses texts of thousands of digits with a ValueError.
MAX_DIGITS = 18


class RecordPagination(PageNumberPagination):
    """Pages of 20, or of `?page_size=` (at most 200). A page past the end is 404, one that is no number 400."""

    django_paginator_class = EstimatingPaginator
    page_size = 20
    page_size_query_param = "page_size"
    max_page_size = 200
    last_page_strings = ()
    invalid_page_message = _("There is no such page.")  # type: ignore[assignment]
    page_query_description = _("Number of the page, from 1.")  # type: ignore[assignment]
    page_size_query_description = _("How many items a page holds, at most 200.")  # type: ignore[assignment]

    def get_page_number(self, request: Request, paginator: Any) -> int:
        return _whole_number(request.query_params.get("page", "1"), "page")

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("page_size")
        return self.page_size if asked is None else min(_whole_number(asked, "page_size"), self.max_page_size)

    def get_paginated_response(self, data: Any) -> Response:
        assert self.page is not None
        paginator = self.page.paginator
        return Response(
            {
                "page": self.page.number,
                "total_page": paginator.num_pages,
                "total": paginator.count,
                "Data": data,
            }
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["page", "total_page", "total", "Data"],
            "properties": {
                "page": {"type": "integer", "minimum": 1},
                "total_page": {"type": "integer", "minimum": 1},
                "total": {"type": "integer", "minimum": 0},
                "Data": schema,
            },
        }


class PagesIfAsked(RecordPagination):
    """A plain array, as it always was: of all rows, or of one page for who sends `page` or `page_size`.

    How many rows there are in all is then told by the header `X-Total-Count`.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        is_asked = not {self.page_query_param, self.page_size_query_param}.isdisjoint(request.query_params)
        return super().paginate_queryset(queryset, request, view) if is_asked else None

    def get_paginated_response(self, data: Any) -> Response:
        assert self.page is not None
        return Response(data, headers={"X-Total-Count": str(self.page.paginator.count)})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return schema


def _whole_number(text: str, name: str) -> int:
    """Return a number from 1; one of too many digits is cut, which leaves it past every end."""
    number = int(text.lstrip("0")[:MAX_DIGITS] or 0) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise ValidationError({name: [_("Must be a whole number from 1.")]})
    return number
