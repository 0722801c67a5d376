"""Celery tasks of the clients."""

from celery import shared_task

from clients import presence


@shared_task(name="clients.watch_presence")
def watch_presence() -> None:
    """Report clients that have fallen silent."""
    presence.watch_presence()
