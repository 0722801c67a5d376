"""What is thrown away after a while: events that everybody has had the time to read."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django_eventstream.models import Event as StreamedEvent

from records.models import Event

# How long after a listener was cut off it can be told what it missed; django-eventstream's own figure.
RESUMABLE = timedelta(days=1)


def delete_old_events() -> int:
    """Delete events older than the settings keep them; return how many."""
    now = timezone.now()
    limit = now - timedelta(days=settings.EVENT_KEEP_DAYS)
    StreamedEvent.objects.filter(created__lt=max(limit, now - RESUMABLE)).delete()
    return Event.objects.filter(time__lt=limit).delete()[0]
