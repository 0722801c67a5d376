"""What is kept of a run's course, and what its page shows of it: phases, curve, log, advice."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.course import Course
from jobs.models import BackupPlan
from records.advice import ADVICE, advice_for
from records.console.run import run_context
from records.course import LINES_KEPT, SAMPLES_KEPT, Line, curve_of, kept_course, log_of, phases_of
from records.lifecycle import claim_job, finish_job
from records.models import BackupRecord, RecoveryRecord, State
from records.reporting import report_progress
from tests.factories import START, make_plan, make_record

TOLD = {
    "elapsed_s": 5.04,
    "phases": [["opening the repository", 0.0], ["backup", 1.0]],
    "samples": [[1.0, 0, 0, 0], [2.0, 1000, 100, 3], [4.0, 3000, 100, 5]],
    "log": [[1.5, "warning", "/etc/shadow: Permission denied"]],
    "log_left_out": 3,
    "error_kind": "StoreUnreachable",
}


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def running(plan: BackupPlan) -> BackupRecord:
    return make_record(plan, state=State.RUNNING, snapshot="", end_time=None)


def test_what_an_agent_tells_is_kept_as_it_is() -> None:
    course = Course()
    course.enter("opening the repository")
    course.follow({"phase": "backup", "bytes_done": 1})
    course.say("warning", "news")
    kept = kept_course({**TOLD, "elapsed_s": 5.0})
    assert kept == {**TOLD, "elapsed_s": 5.0}
    told = course.tell()
    assert {name: len(kept_course(told | {key: list(map(list, told[key])) for key in ("phases", "samples", "log")})[name])
            for name in ("phases", "samples", "log")} == {"phases": 2, "samples": 1, "log": 1}  # fmt: skip


NO_COURSES: list[Any] = [
    None,
    [],
    "text",
    7,
    {"samples": 3},
    {"log": [["later", "info", "x"], [1, "loud", "x"], [1, "info"]]},
    {"samples": [[1, 2, 3, -4], [1, True, 2, 3], [float("nan"), 1, 2, 3], [1, 1 << 80, 2, 3]]},
    {"phases": [[1, 2], ["x", -1]]},
    {"error_kind": 7, "log_left_out": "many", "elapsed_s": float("inf")},
]


@pytest.mark.parametrize("told", NO_COURSES)
def test_what_is_no_course_is_left_out_and_never_refused(told: Any) -> None:
    assert not any(kept_course(told).values())


def test_a_course_is_kept_within_bounds() -> None:
    kept = kept_course({"samples": [[1, 2, 3, 4]] * 10_000, "log": [[1, "info", "\0" + "x" * 100_000]] * 10_000})
    assert len(kept["samples"]) == SAMPLES_KEPT
    assert len(kept["log"]) == LINES_KEPT
    assert len(kept["log"][0][2]) < 1000
    assert "\0" not in kept["log"][0][2]


def test_a_course_comes_with_a_report_and_costs_no_query_of_its_own(plan, django_assert_num_queries) -> None:
    record = running(plan)
    assert record.client_id is not None
    # How many jobs run is counted now, and not with every report.
    report_progress(record.client_id, record.job, 1, {})
    with django_assert_num_queries(1):
        report_progress(record.client_id, record.job, 1, {"bytes_done": 1}, kept_course(TOLD))
    with django_assert_num_queries(1):
        report_progress(record.client_id, record.job, 1, {"bytes_done": 2})
    again = BackupRecord.objects.get(pk=record.pk)
    assert "course" in again.get_deferred_fields(), "lists do not read it"
    assert again.course["samples"] == TOLD["samples"]


def test_the_next_attempt_has_a_course_of_its_own(plan) -> None:
    record = make_record(plan, state=State.QUEUED, snapshot="", end_time=None, offered_at=START, course=kept_course(TOLD))
    claim_job(record, 1)
    assert BackupRecord.objects.get(pk=record.pk).course == {}
    finish_job(record, 1, "failed", error="no", course=kept_course(TOLD))
    assert BackupRecord.objects.get(pk=record.pk).course["error_kind"] == "StoreUnreachable"


def test_phases_last_until_the_next_and_fill_the_run(plan) -> None:
    record = make_record(plan, course=kept_course(TOLD), offered_at=START - timedelta(seconds=2))
    record.queued_at, record.end_time = START - timedelta(seconds=12), START + timedelta(seconds=8)
    shown = [(phase.name, phase.duration_s) for phase in phases_of(record, START)]
    assert shown == [
        ("waiting for its turn", 10.0), ("waiting for its agent", 2.0), ("starting", 0.0), ("opening the repository", 1.0),
        ("reading and storing", 7.0),
    ]  # fmt: skip
    assert sum(phase.percent for phase in phases_of(record, START)) == pytest.approx(100)


def test_the_curve_tells_rates_between_samples(plan) -> None:
    points = curve_of(make_record(plan, course=kept_course(TOLD)))
    rates = [(point.since_s, point.read_rate, point.stored_rate) for point in points]
    assert rates == [(1.0, 0, 0), (2.0, 1000, 100), (4.0, 1000, 0)]
    assert curve_of(make_record(plan)) == []


def test_the_log_has_what_was_told_and_what_the_agent_said_by_time(plan) -> None:
    record = make_record(plan, course=kept_course(TOLD))
    lines = log_of(record, [Line(START + timedelta(seconds=1.2), "info", "told")])
    texts = ["opening the repository", "reading and storing", "told", "/etc/shadow: Permission denied"]
    assert [line.text for line in lines] == texts


def test_an_error_comes_with_what_to_do(plan) -> None:
    record = make_record(plan, state=State.FAILED, course=kept_course(TOLD))
    assert advice_for(record) == ADVICE["StoreUnreachable"]
    assert advice_for(make_record(plan)) == ""
    assert "online" in advice_for(make_record(plan, state=State.LOST))
    failed = make_record(plan, state=State.FAILED, commands=[{"stage": "before", "error": "ended with status 1"}])
    assert "command's output" in advice_for(failed)
    assert advice_for(RecoveryRecord(state=State.FAILED)) == ""


def test_a_colon_in_a_plans_name_cuts_nothing_off_the_log(tmp_path: Path, db: None) -> None:
    record = make_record(make_plan(tmp_path, backup_name="web: uploads"), state=State.QUEUED, offered_at=START)
    claim_job(record, 1)
    assert [line.text for line in run_context(record)["log"]][-1] == "started"
