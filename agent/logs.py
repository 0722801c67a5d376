"""Log lines of the agent and of the server: which job each belongs to, what never gets into one, and how it is written.

The job of a line is the one that it names itself, as `job=backup-12` or in the address of an agent's request; else the one that
is worked on when it is written (`about_job`).
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.json import JsonFormatter

FORMAT_VARIABLE = "BACKUPCENTER_LOG_FORMAT"
LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"
FORMATS = ("line", "json")
FIELDS = ("time", "level", "logger", "job", "trace_id", "message", "exc_info", "stack_info")
# Any longer number is none of a job's.
JOB_NAME = r"(?:backup|recovery)-[0-9]{1,18}(?![0-9A-Za-z_-])"
NAMED_JOB = re.compile(rf"(?:^job=|/api/agent/job/)({JOB_NAME})")

_job: ContextVar[str | None] = ContextVar("job", default=None)


def job_at_work() -> str | None:
    """Return the job that this thread or task works on, such as `backup-12`."""
    return _job.get()


def job_in(text: str) -> str | None:
    """Return the job that a log line or the path of an agent's request names."""
    found = NAMED_JOB.search(text)
    return found[1] if found else None


@contextmanager
def about_job(job: str | None) -> Iterator[None]:
    """Have the lines that are written meanwhile belong to `job`; None: to none."""
    before = _job.set(job)
    try:
        yield
    finally:
        _job.reset(before)


def enter_job(job: str | None) -> None:
    """Have the lines from now on belong to `job`, for a thread that does one thing after the other."""
    _job.set(job)


class UnknownFormat(Exception):
    """There is no such log format; the message says what may be chosen."""


class JobField(logging.Filter):
    """Gives each line the field `job`, None if it belongs to no job."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.job = job_in(record.getMessage()) or job_at_work()
        return True


def _spelt(name: str) -> str:
    """Return a pattern for the name with any of its letters percent-encoded, as a server would still understand it."""
    return "".join(f"(?:{letter}|%{ord(letter.lower()):x}|%{ord(letter.upper()):x})" for letter in name)


NAMES = rf"""[\w%-]*{_spelt("password")}|{_spelt("token")}|{_spelt("secret")}(?:_|%5f){_spelt("key")}"""
# A value may hold quotes of its own: only what ends it in an address ends it here.
VALUE = r"""(?:'[^']*'|"[^"]*")?[^& \r\n]*"""
SECRET = re.compile(rf"""((?:^|[?&\s'"])(?:{NAMES})=){VALUE}""", re.IGNORECASE)


class Redaction(logging.Filter):
    """Masks the values of `password` and `token` in what a line is made of.

    Web servers write the whole address of a request, and `GET /login` and `GET /api/event` carry secrets there.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str) and redact(record.msg) != record.msg:
            # The secret, or the place for it, is in the line itself.
            record.msg, record.args = redact(record.getMessage()), None
        # The arguments stay apart: formatters of web servers read them one by one.
        if isinstance(record.args, tuple):
            record.args = tuple(redact(item) if isinstance(item, str) else item for item in record.args)
        elif record.args:
            record.args = {name: redact(item) if isinstance(item, str) else item for name, item in record.args.items()}
        return True


def redact(text: str) -> str:
    return SECRET.sub(r"\1********", text)


class JsonLines(JsonFormatter):
    """Writes a line as a JSON object: time, level, logger, job and message, and the trace and the traceback if there is one.

    Nothing else: what callers add to a record may hold secrets, as the request does that Django adds.
    """

    def __init__(self) -> None:
        renamed = {"asctime": "time", "levelname": "level", "name": "logger"}
        super().__init__("%(asctime)s %(levelname)s %(name)s %(job)s %(message)s", rename_fields=renamed)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        written = {name: log_data[name] for name in FIELDS if name in log_data}
        return {name: redact(text) if isinstance(text, str) else text for name, text in written.items()}


def log_to_standard_error() -> None:
    """Have the agent log as the environment says. Raises UnknownFormat."""
    chosen = os.environ.get(FORMAT_VARIABLE) or "line"
    if chosen not in FORMATS:
        raise UnknownFormat(f"{FORMAT_VARIABLE} must be line or json")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if chosen == "json" else logging.Formatter(LINE))
    for each in (Redaction(), JobField()):
        handler.addFilter(each)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(chosen == "json")
