"""The Celery application of the server: beat and the control workers.

Agents run an application of their own (`agent.app`), which knows nothing of Django. The broker carries job
numbers only: no secret, no result (see `jobs.dispatch`).
"""

import os
from typing import Any

from celery import Celery, signals

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backupcenter.settings")

app = Celery("backupcenter")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.worker_init.connect
def trace(**_details: Any) -> None:
    from backupcenter.tracing import trace_worker  # which needs the settings

    trace_worker()
