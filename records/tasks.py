"""Celery tasks of the history."""

from celery import shared_task

from accounts.housekeeping import delete_expired
from records.adopting import sync_all_records
from records.housekeeping import delete_old_events
from records.maintenance import run_maintenance
from records.notifying.sending import send_due
from records.upkeep import request_due_maintenance
from records.verifying import delete_old_checks, request_due_checks


@shared_task(name="records.run_maintenance")
def run_maintenance_task(number: int, attempt: int) -> None:
    run_maintenance(number, attempt)
    # Of a store one repository is checked after the other.
    request_due_checks()


@shared_task(name="records.verify")
def verify() -> None:
    request_due_checks()


@shared_task(name="records.sync_records")
def sync_records_task() -> None:
    sync_all_records()


@shared_task(name="records.notify")
def notify() -> None:
    send_due()


@shared_task(name="records.housekeep")
def housekeep() -> None:
    delete_old_events()
    delete_expired()
    request_due_maintenance()
    delete_old_checks()
