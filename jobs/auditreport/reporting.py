"""The months' reports: made and kept when a month has ended, since what they tell of may be deleted later."""

import logging
import re
from datetime import date, datetime

from dateutil.relativedelta import relativedelta
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.auditreport.content import bounds, collect
from jobs.auditreport.rendering import render
from jobs.auditreport.signing import fingerprint, sign
from jobs.models import AuditReport
from jobs.signing import public_key
from records.events import emit
from records.models import Event

log = logging.getLogger(__name__)

MONTH = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])")


def parse_month(text: str) -> date | None:
    """Return the first day of a month written as `2026-11`; None: it is no month."""
    found = MONTH.fullmatch(text)
    return date(int(found[1]), int(found[2]), 1) if found else None


def make_due_report(now: datetime | None = None) -> AuditReport | None:
    """Make and keep the report of the month before this one; None: it is there already, or there was nothing to tell."""
    moment = now or timezone.now()
    month = timezone.localtime(moment).date().replace(day=1) - relativedelta(months=1)
    if AuditReport.objects.filter(month=month).exists():
        return None
    content = collect(month, moment)
    if not content["plans"]:
        return None
    report, is_new = AuditReport.objects.get_or_create(month=month, defaults={"content": content})
    if not is_new:
        return None
    log.info("report=%s made", content["month"])
    title = _("The report for auditors of %(month)s is ready") % {"month": content["month"]}
    emit(Event.Level.INFO, Event.Topic.GENERAL, title)
    return report


def signed_report(month: date, language: str, now: datetime | None = None) -> bytes | None:
    """Return the month's report as a signed page: the one that was kept, or what is known now; None: the month is yet to come."""
    moment = now or timezone.now()
    if bounds(month)[0] > moment:
        return None
    kept = AuditReport.objects.filter(month=month).first()
    content = kept.content if kept else collect(month, moment)
    return sign(render(content, language, fingerprint(public_key())).encode())


def language_of(text: str | None) -> str | None:
    """Return the language that a caller names, the server's for none; None: there is no such language."""
    if text is None:
        return str(settings.LANGUAGE_CODE)
    return text.lower() if text.lower() in dict(settings.LANGUAGES) else None
