"""Celery tasks of plans and their runs."""

from celery import shared_task

from jobs.auditreport.reporting import make_due_report
from jobs.definitions.keeping import request_changed_plans
from jobs.drills import request_due_drills
from jobs.models import BackupPlan
from jobs.offering import offer_jobs
from jobs.ownbackup.keeping import request_due_backup
from jobs.pinging import send_due_pings
from jobs.planning import run_plan
from jobs.protection import note_fleet
from jobs.recoverykit import tell_outdated_kit
from jobs.retention import apply_retention
from jobs.scheduling import fire_due_plans, notice_clock_put_back
from jobs.staleness import watch_staleness
from jobs.watchdog import watch


@shared_task(name="jobs.tick")
def tick() -> None:
    notice_clock_put_back()
    fire_due_plans()
    offer_jobs()


@shared_task(name="jobs.watch")
def watch_task() -> None:
    watch()


@shared_task(name="jobs.back_up_server")
def back_up_server() -> None:
    request_due_backup()


@shared_task(name="jobs.keep_plans")
def keep_plans() -> None:
    request_changed_plans()


@shared_task(name="jobs.ping")
def ping() -> None:
    send_due_pings()


@shared_task(name="jobs.watch_staleness")
def watch_staleness_task() -> None:
    watch_staleness()


@shared_task(name="jobs.drill")
def drill() -> None:
    request_due_drills()


@shared_task(name="jobs.apply_retention")
def apply_retention_task() -> None:
    apply_retention()


@shared_task(name="jobs.note_fleet")
def note_fleet_task() -> None:
    note_fleet()


@shared_task(name="jobs.report")
def report() -> None:
    make_due_report()


@shared_task(name="jobs.fire_plan")
def fire_plan(uuid: str) -> None:
    """Run a plan now: the task that a plan's row among the periodic tasks names."""
    run_plan(BackupPlan.objects.get(uuid=uuid))


@shared_task(name="jobs.watch_kit")
def watch_kit() -> None:
    """Say so when the recovery kit is out of date."""
    tell_outdated_kit()
