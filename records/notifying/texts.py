"""What is written to people: one message for all events that are due on a channel."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from records.models import Event

# Chat services cut, or refuse, what is much longer.
MESSAGE_LENGTH = 1_000
NAMED_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Message:
    """A message in plain text. `level`: the worst of its events."""

    title: str
    body: str
    level: int


def write(events: Sequence[Event], language: str) -> Message:
    """Write a message about at least one event; what events say themselves is in the server's language."""
    with override(language):
        first = events[0]
        occasion = str(Event.Occasion(first.occasion).label) if first.occasion else str(first.get_level_display())
        subject = first.title if len(events) == 1 else _counted(len(events))
        lines = [_line(event, len(events) > 1) for event in events[:NAMED_EVENTS]]
        if len(events) > NAMED_EVENTS:
            more = len(events) - NAMED_EVENTS
            lines.append(ngettext("and %(count)d more event", "and %(count)d more events", more) % {"count": more})
        lines.append(settings.PUBLIC_URL)
        title = f"[Backup Center] {occasion}: {subject}" if len(events) == 1 else f"[Backup Center] {subject}"
    return Message(title, "\n".join(lines), max(event.level for event in events))


def write_test(language: str) -> Message:
    """Write what is sent to try a channel."""
    with override(language):
        title = _("Backup Center: a test")
        return Message(title, _("This channel works. Nothing has happened."), Event.Level.INFO)


def _counted(count: int) -> str:
    return ngettext("%(count)d event", "%(count)d events", count) % {"count": count}


def _line(event: Event, is_titled: bool) -> str:
    time = date_format(timezone.localtime(event.time), "Y-m-d H:i")
    said = event.message if len(event.message) <= MESSAGE_LENGTH else event.message[:MESSAGE_LENGTH] + "…"
    return " ".join(part for part in (time, f"{event.title}." if is_titled else "", said) if part)
