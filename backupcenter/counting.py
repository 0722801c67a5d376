"""Pages of lists that may hold millions of rows: how many there are is counted if that is quick, else estimated.

Counting a million rows takes as long as everything else on a page together. PostgreSQL's planner knows about how many there
are; the pages that are shown correct it, so that the last page is the last one.
"""

import json
from typing import Any

from django.core.paginator import EmptyPage, Page, Paginator
from django.db import connections
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext as _

COUNTED_UP_TO = 10_000
# To skip so many rows costs less than a second query.
SKIPPED_AS_ROWS = 200


class EstimatingPaginator(Paginator):  # type: ignore[type-arg]
    """A paginator whose `count` may be an estimate, until a page that ends the list was read."""

    @cached_property
    def estimate(self) -> int | None:
        """About how many rows there are if they are too many to count, else None."""
        return planned_rows(self.object_list) if isinstance(self.object_list, QuerySet) else None

    @cached_property
    def count(self) -> int:
        return self.estimate or super().count

    def page(self, number: int | str) -> "Page[Any]":
        if self.estimate is None:
            return super().page(number)
        wanted = int(number)
        start = (wanted - 1) * self.per_page
        # Read before it is said how many there are: an estimate refuses no page that may be there.
        is_far_off = start > 2 * self.estimate
        rows = [] if is_far_off else self._rows(start)
        if not rows and wanted > 1:
            raise EmptyPage(_("There is no such page."))
        end = start + len(rows)
        self.__dict__["count"] = end if len(rows) < self.per_page else max(self.count, end)
        self.__dict__.pop("num_pages", None)
        return Page(rows, wanted, self)

    def _rows(self, start: int) -> list[Any]:
        """Read a page. Far from the first one, what comes before is skipped in an index, and not read with all that is joined."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        end = start + self.per_page
        if start < SKIPPED_AS_ROWS:
            return list(rows[start:end])
        keys = list(rows.values_list("pk", flat=True)[start:end])
        return list(rows.filter(pk__in=keys)) if keys else []


def planned_rows(rows: "QuerySet[Any]") -> int | None:
    """Return how many rows PostgreSQL expects if they are many, None if they can be counted (and on SQLite, which has no idea)."""
    expected = expected_rows(rows)
    return expected if expected is not None and expected > COUNTED_UP_TO else None


def expected_rows(rows: "QuerySet[Any]") -> int | None:
    """Return how many rows PostgreSQL expects, None if nobody knows: on SQLite, and where there can be none."""
    if connections[rows.db].vendor != "postgresql" or rows.query.is_empty():
        return None
    (plan,) = json.loads(rows.order_by().values("pk").explain(format="json"))
    return int(plan["Plan"]["Plan Rows"])
