"""The watchdog: what was lost is tried again, what was offered and not taken is offered again. Beat drives it every few seconds."""

from jobs.offering import offer_jobs, publish_offered, withdraw_offers
from records.events import send_unsent
from records.lifecycle import lose_expired
from records.maintenance import lose_expired_runs
from records.publishing import publish_waiting_runs


def watch() -> None:
    """Do one round."""
    lose_expired()
    withdraw_offers()
    offer_jobs()
    publish_offered()
    lose_expired_runs()
    publish_waiting_runs()
    send_unsent()
