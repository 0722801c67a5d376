"""The Celery application of the server: beat and the control workers.

Agents run an application of their own (`agent.app`), which knows nothing of Django. The broker carries job
numbers only: no secret, no result (see `jobs.dispatch`).
"""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")

app = Celery("backupcenter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
