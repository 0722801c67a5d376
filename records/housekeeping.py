"""What is thrown away after a while: events that everybody has had the time to read."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django_eventstream.models import Event as StreamedEvent

from records.models import Event


def delete_old_events() -> int:
    """Delete events older than the settings keep them; return how many."""
    limit = timezone.now() - timedelta(days=settings.EVENT_KEEP_DAYS)
    StreamedEvent.objects.filter(created__lt=limit).delete()
    return Event.objects.filter(time__lt=limit).delete()[0]
