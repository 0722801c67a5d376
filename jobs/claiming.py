"""Handing a job to its agent: claim and specification are one step, so that nobody holds a job without knowing what it is."""

import logging
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.utils.translation import gettext as _

from backupcenter.api.exceptions import Conflict
from clients.compatibility import OLDEST_PROTOCOL, speaks
from jobs.offering import offer_now
from jobs.specification import job_specification
from records.lifecycle import claim_job, fail_queued
from records.models import JobRecord, State

log = logging.getLogger(__name__)


def hand_over(record: JobRecord, attempt: int, nonce: str = "", *, protocol: int = OLDEST_PROTOCOL) -> dict[str, Any]:
    """Claim a queued job and return its specification, which holds secrets; the same again for the same `nonce`.

    `protocol`: which the agent speaks. A job that is not offered is so now, if there is a slot for it. Raises StaleAttempt, and
    Conflict if it cannot be run now, or never: then it has failed.
    """
    if not speaks(protocol, record.needs_protocol):
        raise Conflict(_("This agent is too old for this job: install the server's version of it on this host."))
    if record.state == State.QUEUED and record.offered_at is None:
        offer_now(record)
    try:
        with transaction.atomic():
            claim_job(record, attempt, nonce)
            return job_specification(record)
    except ImproperlyConfigured as error:
        # Its secrets cannot be read. The sentence names no secret, and trying again would not help.
        log.exception("job=%s cannot be handed over", record.job)
        fail_queued(record, attempt, str(error))
        raise Conflict(str(error)) from error
