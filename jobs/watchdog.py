"""The watchdog: what was lost is tried again, what was offered and not taken is offered again. Beat drives it every few seconds."""

from backupcenter.clock import clock
from jobs.offering import offer_jobs, publish_offered, withdraw_offers
from records.events import send_unsent
from records.lifecycle import lose_expired, shorten_leases
from records.maintenance import lose_expired_runs
from records.pacing import lease_s
from records.publishing import publish_waiting_runs


def watch() -> None:
    """Do one round."""
    shorten_leases()
    # After the clock was put forward every lease seems to have run out.
    if clock.is_steady(lease_s()):
        lose_expired()
        lose_expired_runs()
        withdraw_offers()
    offer_jobs()
    publish_offered()
    publish_waiting_runs()
    send_unsent()
