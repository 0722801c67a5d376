"""Who follows jobs: told of each change of a record's state, in the transaction that makes it.

A follower that fails keeps no job from going on. What it should have done is missing then, and nobody would see that: so it is
told as an event. Its queries are in a savepoint of its own, lest one that fails spoil the transaction of the job.
"""

import logging

from django.conf import settings
from django.dispatch import Signal
from django.utils.translation import gettext as _
from django.utils.translation import override

from records.events import emit
from records.models import Event, JobRecord

log = logging.getLogger(__name__)

# Sent with `record`, in the transaction that changes its state, once the row says so.
job_changed = Signal()


def tell_followers(record: JobRecord) -> None:
    """Tell all who follow jobs that the record has another state; what one of them could not do is told as an event."""
    for follower, answer in job_changed.send_robust(type(record), record=record):
        if not isinstance(answer, Exception):
            continue
        # Django has logged it, with its trace.
        what = f"{follower.__module__}.{follower.__qualname__}"
        log.error("job=%s not followed by %s", record.job, what)
        with override(settings.LANGUAGE_CODE):
            title = _("What follows from %(job)s was not all done") % {"job": record}
            # Not the fault's own text: it is meant for the log, and may hold anything.
            message = _("%(what)s failed (%(error)s); the server's log says more.")
            said = message % {"what": what, "error": type(answer).__name__}
            emit(Event.Level.ERROR, Event.Topic.GENERAL, title, said, record=record)
