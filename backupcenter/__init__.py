"""The Django project: settings, routes, the Celery application and the conventions that every API shares."""

from backupcenter.celery import app as celery_app

__version__ = "0.1.0"
__all__ = ["celery_app"]
