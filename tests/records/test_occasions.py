"""Each event that people may want to be told says what kind of occasion it is."""

import pytest

from clients.presence import presence_changed
from records.lifecycle import _tell as tell
from records.models import Event, State
from tests.factories import make_plan, make_record

pytestmark = pytest.mark.django_db


def occasions() -> list[str]:
    return list(Event.objects.order_by("pk").values_list("occasion", flat=True))


def test_a_failure_and_the_first_success_after_it_are_occasions_and_the_next_success_is_none(tmp_path):
    plan = make_plan(tmp_path)
    for state in (State.FAILED, State.SUCCESS, State.SUCCESS):
        tell(make_record(plan, state=state), Event.Level.INFO, "ended")
    assert occasions() == [Event.Occasion.FAILED, Event.Occasion.RECOVERED, ""]


def test_a_cancelled_run_between_failure_and_success_hides_neither(tmp_path):
    plan = make_plan(tmp_path)
    for state in (State.LOST, State.CANCELLED, State.WARNINGS):
        tell(make_record(plan, state=state), Event.Level.INFO, "ended")
    assert occasions() == [Event.Occasion.FAILED, "", Event.Occasion.RECOVERED]


def test_an_event_names_the_client_that_it_is_about(tmp_path):
    client = make_plan(tmp_path).client
    presence_changed.send(None, client=client, online=False)
    event = Event.objects.get()
    assert (event.occasion, event.client) == (Event.Occasion.CLIENT_OFFLINE, client)
