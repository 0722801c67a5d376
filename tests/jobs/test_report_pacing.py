"""Agents are told to report the more seldom, the more jobs run; a lease lasts three reports."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.planning import run_plan
from records import pacing
from records.pacing import lease_s, report_interval
from tests.factories import make_client, make_plan
from tests.jobs.test_agent_jobs import agent_of, say


@pytest.mark.parametrize(
    ("running", "seconds", "lease"),
    [(0, 2.0, 30), (120, 2.0, 30), (300, 5.0, 30), (600, 10.0, 30), (1000, 16.7, 50), (100_000, 100.0, 300)],
)
def test_the_more_jobs_run_the_more_seldom_each_is_reported_and_the_longer_is_its_lease(
    monkeypatch, settings, running, seconds, lease
) -> None:
    settings.JOB_LEASE_S = 30
    monkeypatch.setattr(pacing, "_running_jobs", lambda: running)
    assert report_interval() == seconds
    assert lease_s() == lease


def test_a_short_lease_is_renewed_in_time(monkeypatch, settings) -> None:
    settings.JOB_LEASE_S = 3
    monkeypatch.setattr(pacing, "_running_jobs", lambda: 20)
    assert (report_interval(), lease_s()) == (1.0, 3)


def test_a_lease_that_has_grown_is_what_a_report_is_given_and_told(monkeypatch, settings, db, tmp_path) -> None:
    settings.JOB_LEASE_S = 30
    client = make_client()
    record, agent = run_plan(make_plan(tmp_path, client=client)), agent_of(client)
    monkeypatch.setattr(pacing, "_running_jobs", lambda: 1000)
    say(agent, record, "claim")
    before = timezone.now()
    answer = say(agent, record, "progress", progress={}).json()
    assert (answer["lease_s"], answer["report_every_s"]) == (50, 16.7)
    record.refresh_from_db()
    assert timedelta(seconds=50) <= record.lease_until - before < timedelta(seconds=80)


def test_a_report_is_answered_with_the_time_of_the_next_and_takes_few_queries(db, tmp_path, django_assert_max_num_queries) -> None:
    client = make_client()
    record, agent = run_plan(make_plan(tmp_path, client=client)), agent_of(client)
    assert say(agent, record, "claim").status_code == 200
    assert say(agent, record, "progress", progress={}).json()["report_every_s"] == 2.0
    with django_assert_max_num_queries(2):
        assert say(agent, record, "progress", progress={"files_done": 1}).status_code == 200
    record.refresh_from_db()
    assert record.progress == {"files_done": 1}
