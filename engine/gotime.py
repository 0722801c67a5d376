"""Times as Go writes them in JSON (RFC 3339 with up to nine digits of a second), since that is what restic reads and writes.

Nanoseconds do not fit into Python's datetime: files' times stay integers, snapshots' and locks' lose what is below a
microsecond.
"""

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_EARLIEST_S, _LATEST_S = -62167219200, 253402300799  # the years 0 to 9999: Go has no others in JSON
_SECOND = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:Z|([+-])(\d\d):([0-5]\d))", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
# Entries of a tree often share the second, and the calendar part is most of the cost of a time.
_SECONDS_KEPT = 8192


def format_ns(time_ns: int) -> str:
    """Local time in RFC 3339 with nanoseconds and trimmed zeros, as Go's ``time.RFC3339Nano``."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    calendar, zone = _format_seconds(seconds)
    if nanoseconds:
        fraction = f"{nanoseconds:09d}".rstrip("0")
        return f"{calendar}.{fraction}{zone}"
    return calendar + zone


@lru_cache(maxsize=_SECONDS_KEPT)
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
    if text.endswith("Z"):
        second, fraction, zone = text[:19], text[19:-1], "Z"
    else:
        second, fraction, zone = text[:19], text[19:-6], text[-6:]
    if fraction and (fraction[0] != "." or not fraction.isascii() or not fraction[1:].isdigit()):
        raise ValueError(f"not a time: {text!r}")
    return _parse_seconds(second, zone) * 1_000_000_000 + (int(fraction[1:10].ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=_SECONDS_KEPT)
def _parse_seconds(second: str, zone: str) -> int:
    found = _SECOND.fullmatch(second + zone)
    if found is None:
        raise ValueError(f"not a time: {second + zone!r}")
    year, month, day, hour, minute, seconds, sign, zone_hours, zone_minutes = found.groups()
    if year == "0000":  # Python's calendar starts with year 1; the year before it is a leap year
        days = datetime(4, int(month), int(day)).toordinal() - datetime(4, 1, 1).toordinal() - 365
    else:
        days = datetime(int(year), int(month), int(day)).toordinal()
    total = ((days - _EPOCH_DAY) * 24 + int(hour)) * 3600 + int(minute) * 60 + int(seconds)
    if sign:
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        total -= offset if sign == "+" else -offset
    return total


def format_time(moment: datetime) -> str:
    """Return an aware datetime as Go prints it, with its own offset."""
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    offset = moment.isoformat()[-6:]
    zone = "Z" if offset == "+00:00" else offset
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}"


def parse_time(text: str) -> datetime:
    """Return an aware datetime (UTC) of a time that Go wrote. Raises ValueError."""
    try:
        return _EPOCH + timedelta(microseconds=parse_ns(text) // 1000)
    except OverflowError as error:
        raise ValueError(f"not a time of the years 1 to 9999: {text!r}") from error


def parse_zoned_time(text: str) -> datetime:
    """Return an aware datetime of a time that Go wrote, with the offset it was written with. Raises ValueError."""
    moment = parse_time(text)
    if text.endswith("Z"):
        return moment
    offset = timedelta(hours=int(text[-5:-3]), minutes=int(text[-2:]))
    try:
        return moment.astimezone(timezone(-offset if text[-6] == "-" else offset))
    except OverflowError as error:
        raise ValueError(f"not a time of the years 1 to 9999: {text!r}") from error
