"""Long lists are not counted: what the planner expects stands for their length until a page shows better."""

import json
from pathlib import Path

import pytest

from backupcenter import counting
from tests.factories import make_plan, make_record
from tests.services.postgres import postgres_server
from tests.system.processes import installation

ROWS = 45


@pytest.fixture
def rows(db, tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    for _ in range(ROWS):
        make_record(plan)


@pytest.mark.parametrize(
    ("estimate", "page", "total", "pages", "shown"),
    [
        (None, 1, ROWS, 3, 20),
        (100, 1, 100, 5, 20),
        (100, 3, ROWS, 3, 5),
        (30, 1, 30, 2, 20),
        (30, 2, 40, 2, 20),
        (30, 3, ROWS, 3, 5),
    ],
)
def test_a_page_corrects_what_was_expected(rows, api, monkeypatch, estimate, page, total, pages, shown) -> None:
    monkeypatch.setattr(counting, "planned_rows", lambda rows: estimate)
    answer = api("viewer").get(f"/api/record/backup?page={page}").json()
    assert (answer["total"], answer["total_page"], len(answer["Data"])) == (total, pages, shown)


@pytest.mark.parametrize("page", [4, 5, 10**17])
def test_a_page_past_the_end_is_not_there_whatever_was_expected(rows, api, monkeypatch, page) -> None:
    monkeypatch.setattr(counting, "planned_rows", lambda rows: 100)
    assert api("viewer").get(f"/api/record/backup?page={page}").status_code == 404


@pytest.mark.postgres
def test_many_rows_are_estimated_few_are_counted_and_what_is_searched_is_found_by_index() -> None:
    with postgres_server() as url, installation(url) as center:
        printed = center.run_python(
            "import json;"
            "from django.db import connection;"
            "from records.models import Event;"
            "from backupcenter.counting import EstimatingPaginator, planned_rows;"
            "from records.searching import search_events;"
            "Event.objects.bulk_create(Event(level=0 if n else 80, topic=0, title='event') for n in range(20000));"
            "connection.cursor().execute('ANALYZE');"
            "few = Event.objects.filter(level=80);"
            "Event.objects.filter(pk__in=Event.objects.order_by('pk')[1000:1100]).update(title='long ago', job='backup-77');"
            # Of so few rows it would read all.
            "connection.cursor().execute('ANALYZE; SET enable_seqscan TO off');"
            "found = search_events(Event.objects.order_by('-pk'), 'AGO backup-77');"
            "facts = [planned_rows(Event.objects.all()), planned_rows(few), EstimatingPaginator(few, 20).count];"
            "print(json.dumps([*facts, len(found), found.all()[:25].explain()]))"
        )
    many, few, counted, found, way = json.loads(printed.splitlines()[-1])
    assert 18_000 < many < 22_000
    assert (few, counted) == (None, 1)
    assert found == 100
    assert "event_by_words" in way


def test_a_page_that_is_far_off_has_the_same_rows_in_the_same_order(rows, api, monkeypatch) -> None:
    monkeypatch.setattr(counting, "planned_rows", lambda rows: ROWS)
    near = api("viewer").get("/api/record/backup?page=2").json()["Data"]
    monkeypatch.setattr(counting, "SKIPPED_AS_ROWS", 0)
    assert api("viewer").get("/api/record/backup?page=2").json()["Data"] == near
    assert [row["id"] for row in near] == sorted((row["id"] for row in near), reverse=True)
