"""Beat after a step of the clock: every chore is looked at anew, and runs once."""

from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from backupcenter.celery import app
from jobs.beat import Scheduler

HOUR = timedelta(hours=1)
# By time of day, so that whether they are due is chance.
BY_THE_CLOCK = {"records", "celery.backend_cleanup"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr(Scheduler, "producer", None)
    monkeypatch.setattr(Scheduler, "apply_async", lambda self, entry, **options: names.append(entry.name))
    return names


# It opens connections of its own.
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("since", [-HOUR, HOUR], ids=["forward", "back"])
def test_a_step_of_the_clock_has_every_chore_run_at_most_once_and_none_wait_for_another(
    monkeypatch: pytest.MonkeyPatch, sent: list[str], since: timedelta
) -> None:
    Scheduler(app=app)
    PeriodicTask.objects.update(last_run_at=timezone.now() + since)
    scheduler = Scheduler(app=app)
    # As in the seconds after a step.
    monkeypatch.setattr(scheduler._clock, "is_steady", lambda for_s: False)
    for _ in range(200):
        scheduler.tick()
    scheduler.close()
    counted = Counter(name for name in sent if name not in BY_THE_CLOCK)
    # The chore of every second may have come round.
    every_second = counted.pop("tick", 0)
    assert not counted or max(counted.values()) == 1, counted
    if since < timedelta(0):
        assert set(counted) == settings.CELERY_BEAT_SCHEDULE.keys() - BY_THE_CLOCK - {"tick"}
        assert every_second
