"""The Django project: settings, routes, the Celery application and the conventions that every API shares."""

from backupcenter.celery import app as celery_app

__all__ = ["celery_app"]
