"""Times as Go writes them in JSON (RFC 3339 with up to nine digits of a second), since that is what restic reads and writes.

Nanoseconds do not fit into Python's datetime: files' times stay integers, snapshots' and locks' lose what is below a
microsecond.
"""

import re
from datetime import UTC, datetime, timedelta

_TIME = re.compile(r"(\d{4,})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def format_ns(time_ns: int) -> str:
    """Return Unix nanoseconds as Go prints them, in UTC, without trailing zeros."""
    seconds, ns = divmod(time_ns, 1_000_000_000)
    # Years before 1 and after 9999 cannot be written; such a file is given the nearest time that can.
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        moment, ns = (datetime.min if seconds < 0 else datetime.max.replace(microsecond=0)), 0
    fraction = f".{ns:09d}".rstrip("0") if ns else ""
    return f"{moment:%H:%M:%S}".join((f"{moment.year:04d}-{moment:%m-%d}T", f"{fraction}Z"))


def format_time(moment: datetime) -> str:
    """Return an aware datetime as Go prints it, with its own offset."""
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    offset = moment.isoformat()[-6:]
    zone = "Z" if offset == "+00:00" else offset
    return f"{moment.year:04d}-{moment:%m-%dT%H:%M:%S}{fraction}{zone}"


def parse_ns(text: str) -> int:
    """Return the Unix nanoseconds of a time that Go wrote. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a time")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    seconds = (moment - _EPOCH) // timedelta(seconds=1)
    zone = match[8]
    if zone != "Z":
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= -offset if zone[0] == "-" else offset
    return seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0")[:9])


def parse_time(text: str) -> datetime:
    """Return an aware datetime (UTC) of a time that Go wrote. Raises ValueError."""
    return _EPOCH + timedelta(microseconds=parse_ns(text) // 1000)
