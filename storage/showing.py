"""How the console shows what is known of a repository. Nothing here reads the database but the verification itself."""

from datetime import datetime

from django.utils.formats import date_format
from django.utils.html import format_html_join
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from storage.models import Repository, Verification


def verification_state(repository: Repository) -> str:
    """Return the state of the repository's verification; it waits as long as there is none."""
    known = getattr(repository, "verification", None)
    return known.state if known is not None else str(Verification.State.WAITING)


def verification_lines(repository: Repository) -> str:
    """Return what checks have shown as HTML, a line for each point."""
    known: Verification | None = getattr(repository, "verification", None)
    if known is None:
        return str(Verification.State.WAITING.label)
    shown = [str(Verification.State(known.state).label)]
    if known.structure_at is not None:
        shown.append(_("structure found sound on %(time)s") % {"time": _time(known.structure_at)})
    if (since := known.data_since) is not None:
        shown.append(_("all data read since %(time)s") % {"time": _time(since)})
    else:
        shown.append(_("%(percent)d%% of the data read so far") % {"percent": int(known.data_share * 100)})
    if known.problem:
        shown.append(known.problem)
    return format_html_join("", "<div>{}</div>", ((text,) for text in shown))


def _time(moment: datetime) -> str:
    return date_format(localtime(moment), "DATETIME_FORMAT")
