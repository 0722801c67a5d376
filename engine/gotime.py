"""Times as Go writes them in JSON (RFC 3339 with up to nine digits of a second), since that is what restic reads and writes.

Nanoseconds do not fit into Python's datetime: files' times stay integers, snapshots' and locks' lose what is below a
microsecond.
"""

import re
import time
from datetime import UTC, datetime, timedelta

_EARLIEST_S, _LATEST_S = -62167219200, 253402300799  # the years 0 to 9999: Go has no others in JSON
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()

# Entries of a tree often share the second; formatting the calendar part once is most of the cost of a time.
_seconds_cache: dict[int, tuple[str, str]] = {}


def format_ns(time_ns: int) -> str:
    """Local time in RFC 3339 with nanoseconds and trimmed zeros, as Go's ``time.RFC3339Nano``."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    try:
        calendar, zone = _seconds_cache[seconds]
    except KeyError:
        if len(_seconds_cache) > 50_000:
            _seconds_cache.clear()
        calendar, zone = _seconds_cache[seconds] = _format_seconds(seconds)
    if nanoseconds:
        fraction = f"{nanoseconds:09d}".rstrip("0")
        return f"{calendar}.{fraction}{zone}"
    return calendar + zone


def _format_seconds(seconds: int) -> tuple[str, str]:
    local = time.localtime(min(max(seconds, _EARLIEST_S), _LATEST_S))
    year = min(max(local.tm_year, 0), 9999)
    calendar = (
        f"{year:04d}-{local.tm_mon:02d}-{local.tm_mday:02d}T{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    )
    if local.tm_gmtoff == 0:
        return calendar, "Z"
    minutes = int(local.tm_gmtoff / 60)
    sign = "-" if minutes < 0 else "+"
    return calendar, f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def parse_ns(text: str) -> int:
    """Nanoseconds since 1970 of a time in RFC 3339. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    if found[8] is None and found[1] != "0000":
        # Nearly all times are of this form, and a restore reads three of them for each entry.
        moment = datetime.fromisoformat(text[:19])
        seconds = (moment.toordinal() - _EPOCH_DAY) * 86_400 + moment.hour * 3600 + moment.minute * 60 + moment.second
        return seconds * 1_000_000_000 + int((found[7] or "").ljust(9, "0"))
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = found.groups()
    if year == "0000":  # Python's calendar starts with year 1; the year before it is a leap year
        days = datetime(4, int(month), int(day)).toordinal() - datetime(4, 1, 1).toordinal() - 365
    else:
        days = datetime(int(year), int(month), int(day)).toordinal()
    seconds = ((days - _EPOCH_DAY) * 24 + int(hour)) * 3600 + int(minute) * 60 + int(second)
    if sign:
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


def format_time(moment: datetime) -> str:
    """Return an aware datetime as Go prints it, with its own offset."""
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    offset = moment.isoformat()[-6:]
    zone = "Z" if offset == "+00:00" else offset
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}"


def parse_time(text: str) -> datetime:
    """Return an aware datetime (UTC) of a time that Go wrote. Raises ValueError."""
    return _EPOCH + timedelta(microseconds=parse_ns(text) // 1000)
