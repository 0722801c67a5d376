"""`emit` and `emit_progress`: what is stored, what is sent, and that no caller ever suffers."""

import json
import threading
import uuid
from datetime import timedelta

import pytest
import redis
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django_eventstream.models import Event as LoggedEvent

from backupcenter import background
from records import events
from records.broadcast import Hub
from records.events import emit, emit_progress, send_unsent
from records.models import BackupRecord, Event, RecoveryRecord, State

Level, Topic = Event.Level, Event.Topic


@pytest.fixture(autouse=True)
def _fresh_publisher():
    events._publisher.cache_clear()
    events._progress_sent.clear()
    yield
    events._publisher.cache_clear()


@pytest.fixture
def published(monkeypatch):
    """The messages that went out on Redis."""
    messages = []
    monkeypatch.setattr(redis.Redis, "publish", lambda self, channel, message: messages.append(json.loads(message)))
    return messages


def logged() -> list[dict[str, object]]:
    rows = LoggedEvent.objects.filter(channel="events", eid__gt=0).order_by("eid")
    return [json.loads(json.loads(row.data)) for row in rows]


def backup_record(**fields) -> BackupRecord:
    return BackupRecord(pk=12, plan_uuid=uuid.UUID(int=5), plan_name="nightly", state=State.RUNNING, **fields)


@pytest.mark.django_db(transaction=True)
def test_an_event_is_stored_logged_and_published_as_the_contract_has_it(published):
    emit(Level.ERROR, Topic.BACKUP, gettext_lazy("Backup failed"), "no space left", record=backup_record())
    event = Event.objects.get()
    assert (event.type, event.title, event.message, event.job) == (0x51, "Backup failed", "no space left", "backup-12")
    assert event.plan_uuid == uuid.UUID(int=5)
    assert logged() == [
        {
            "type": 0x51,
            "title": "Backup failed",
            "message": "no space left",
            "record": {"kind": "backup", "id": 12},
            "backup": str(uuid.UUID(int=5)),
            "time": int(event.time.timestamp()),
        }
    ]
    assert [message["pub_id"] for message in published] == ["1"]
    assert json.loads(published[0]["data"]) == logged()[0]


@pytest.mark.django_db(transaction=True)
def test_nobody_hears_of_what_was_rolled_back(published):
    with transaction.atomic():
        emit(Level.INFO, Topic.GENERAL, "never")
        transaction.set_rollback(True)
    assert not Event.objects.exists()
    assert not logged()
    assert not published


@pytest.mark.django_db(transaction=True)
def test_listeners_hear_of_it_only_after_the_commit(published):
    with transaction.atomic():
        emit(Level.INFO, Topic.GENERAL, "later")
        assert not published
        assert not logged()
    assert len(published) == len(logged()) == 1


@pytest.mark.django_db(transaction=True)
def test_without_redis_the_event_is_there_and_redis_is_left_alone_for_a_while(monkeypatch):
    tries = []

    def refuse(*arguments: object) -> None:
        tries.append(arguments)
        raise redis.ConnectionError("refused")

    monkeypatch.setattr(redis.Redis, "publish", refuse)
    for number in range(5):
        emit(Level.INFO, Topic.GENERAL, f"event {number}")
    assert len(logged()) == 5
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
def test_a_database_that_refuses_the_event_does_not_fail_the_caller(monkeypatch, published):
    def refuse(*arguments: object, **options: object) -> None:
        raise DatabaseError("disk full")

    monkeypatch.setattr(Event, "save", refuse)
    with transaction.atomic():
        emit(Level.INFO, Topic.GENERAL, "lost")
        assert not connection.needs_rollback
    assert not published


@pytest.mark.django_db(transaction=True)
def test_text_that_no_database_takes_is_made_storable(published):
    emit(Level.INFO, Topic.GENERAL, "x" * 300, "caf\udce9\0")
    event = Event.objects.get()
    assert len(event.title) == 255
    assert event.message == "caf?"


@pytest.mark.django_db(transaction=True)
def test_a_long_message_is_stored_whole_and_sent_in_part(published):
    emit(Level.INFO, Topic.GENERAL, "long", "x" * 5_000)
    assert len(Event.objects.get().message) == 5_000
    assert logged()[0]["message"] == "x" * 1_000


@pytest.mark.django_db(transaction=True)
def test_progress_is_sent_at_most_once_a_second_a_job_and_never_stored(published):
    for done in range(3):
        emit_progress(backup_record(progress={"files_done": done}))
    emit_progress(RecoveryRecord(pk=12, state=State.RUNNING))
    assert [(message["event_type"], message["pub_id"]) for message in published] == [("progress", None)] * 2
    data = json.loads(published[0]["data"])
    assert data["record"] == {"kind": "backup", "id": 12}
    assert data["state"] == State.RUNNING
    assert data["progress"] == {"files_done": 0}
    assert not Event.objects.exists()
    assert not logged()


@pytest.mark.django_db(transaction=True)
def test_the_end_of_a_job_is_always_sent(published):
    record = backup_record()
    emit_progress(record)
    record.state = State.SUCCESS
    emit_progress(record)
    assert [json.loads(message["data"])["state"] for message in published] == [State.RUNNING, State.SUCCESS]


@pytest.mark.django_db(transaction=True)
def test_an_event_whose_sender_died_or_failed_is_sent_by_the_watchdog_once(published, monkeypatch):
    with monkeypatch.context() as failing:
        failing.setattr(events, "append_events", lambda *arguments: {}["missing"])
        emit(Level.ERROR, Topic.BACKUP, "failed", record=backup_record())
    assert not logged()
    later = timezone.now() + timedelta(minutes=1)
    assert send_unsent() == 0
    assert send_unsent(later) == 1
    assert send_unsent(later) == 0
    assert [(said["title"], said["record"]) for said in logged()] == [("failed", {"kind": "backup", "id": 12})]
    assert len(published) == 1


@pytest.mark.django_db(transaction=True)
def test_a_report_that_is_overtaken_by_the_end_of_its_job_is_not_told(published):
    record = backup_record(attempt=1)
    hub = Hub()
    for state in (State.RUNNING, State.SUCCESS, State.RUNNING):
        record.state = state
        events._progress_sent.clear()
        emit_progress(record)
        hub._heard({"type": "message", "data": json.dumps(published[-1])})
    (told,) = hub.progress_after(0)
    assert f'"state": {State.SUCCESS}' in told.decode()


@pytest.mark.django_db(transaction=True)
def test_what_many_threads_tell_at_once_goes_to_the_log_together_and_once(published, monkeypatch):
    appended = []
    append = events.append_events
    monkeypatch.setattr(events, "append_events", lambda *arguments: appended.append(len(arguments[2])) or append(*arguments))
    stored = [Event.objects.create(level=0, topic=0, title=f"event {number}") for number in range(5)]
    # As if four other threads had come while one was sending.
    events._outgoing.extend(stored[1:])
    events._send(stored[:1])
    for event in stored:
        events._send([event])
    assert appended == [5]
    assert [said["title"] for said in logged()] == [event.title for event in stored]
    assert len(published) == 1


@pytest.mark.django_db(transaction=True)
def test_a_process_may_leave_sending_to_a_thread_which_the_first_event_begins(published, monkeypatch):
    sent = threading.Event()
    monkeypatch.setattr(background, "_is_on", threading.Event())
    monkeypatch.setattr(events, "_sender", background.Background("test of sending", sent.set, 0))
    background.work_in_background()
    assert "test of sending" not in {thread.name for thread in threading.enumerate()}
    emit(Level.INFO, Topic.GENERAL, "said")
    assert sent.wait(10)
