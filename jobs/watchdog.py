"""The watchdog: what was lost is tried again, what waits is sent again. Beat drives it every few seconds."""

from jobs.dispatch import publish_waiting
from records.events import send_unsent
from records.lifecycle import lose_expired
from records.maintenance import lose_expired_runs
from records.publishing import publish_waiting_runs


def watch() -> None:
    """Do one round."""
    lose_expired()
    publish_waiting()
    lose_expired_runs()
    publish_waiting_runs()
    send_unsent()
