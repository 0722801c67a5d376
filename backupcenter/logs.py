"""What never reaches a log line: the values of `password` and `token` in addresses.

Web servers write the whole address of a request, and `GET /login` and `GET /api/event` carry secrets there.
"""

import logging
import re

SECRET = re.compile(r"""((?:^|[?&\s'"])(?:[\w-]*password|token|secret_key)=)[^&\s'"]*""", re.IGNORECASE)


class Redaction(logging.Filter):
    """Masks secrets in what a line is made of."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = redact(record.msg)
        # The arguments stay apart: formatters of web servers read them one by one.
        if isinstance(record.args, tuple):
            record.args = tuple(redact(item) if isinstance(item, str) else item for item in record.args)
        elif record.args:
            record.args = {name: redact(item) if isinstance(item, str) else item for name, item in record.args.items()}
        return True


def redact(text: str) -> str:
    return SECRET.sub(r"\1********", text)


def redact_access_logs() -> None:
    """Put the filter on the web servers' own logs, which have handlers of their own."""
    for name in ("uvicorn.access", "django.server", "gunicorn.access"):
        log = logging.getLogger(name)
        if not any(isinstance(known, Redaction) for known in log.filters):
            log.addFilter(Redaction())
