"""Agents are told to report the more seldom, the more jobs run; never so seldom that a lease could end meanwhile."""

import pytest

from jobs.planning import run_plan
from records import pacing
from records.pacing import report_interval
from tests.factories import make_client, make_plan
from tests.jobs.test_agent_jobs import agent_of, say


@pytest.mark.parametrize(("running", "seconds"), [(0, 2.0), (200, 2.0), (500, 5.0), (1000, 10.0), (100_000, 10.0)])
def test_the_more_jobs_run_the_more_seldom_each_is_reported(monkeypatch, settings, running, seconds) -> None:
    settings.JOB_LEASE_S = 30
    monkeypatch.setattr(pacing, "_running_jobs", lambda: running)
    assert report_interval() == seconds


def test_a_short_lease_is_renewed_in_time(monkeypatch, settings) -> None:
    settings.JOB_LEASE_S = 3
    monkeypatch.setattr(pacing, "_running_jobs", lambda: 100_000)
    assert report_interval() == 1.0


def test_a_report_is_answered_with_the_time_of_the_next_and_takes_few_queries(db, tmp_path, django_assert_max_num_queries) -> None:
    client = make_client()
    record, agent = run_plan(make_plan(tmp_path, client=client)), agent_of(client)
    assert say(agent, record, "claim").status_code == 200
    assert say(agent, record, "progress", progress={}).json()["report_every_s"] == 2.0
    with django_assert_max_num_queries(3):
        assert say(agent, record, "progress", progress={"files_done": 1}).status_code == 200
    record.refresh_from_db()
    assert record.progress == {"files_done": 1}
