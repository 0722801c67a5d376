"""Celery tasks of the clients."""

from celery import shared_task
from django.conf import settings

from backupcenter.clock import clock
from clients import broker, presence


@shared_task(name="clients.watch_presence")
def watch_presence() -> None:
    """Report clients that have fallen silent; after the clock was put forward, as which all would appear, a while later."""
    if clock.is_steady(settings.CLIENT_OFFLINE_S):
        presence.watch_presence()


@shared_task(name="clients.guard_broker")
def guard_broker() -> None:
    broker.guard()
