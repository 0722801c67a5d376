"""What never reaches a log line: the values of `password` and `token` in addresses.

Web servers write the whole address of a request, and `GET /login` and `GET /api/event` carry secrets there.
"""

import logging
import re


def _spelt(name: str) -> str:
    """Return a pattern for the name with any of its letters percent-encoded, as a server would still understand it."""
    return "".join(f"(?:{letter}|%{ord(letter.lower()):x}|%{ord(letter.upper()):x})" for letter in name)


NAMES = rf"""[\w%-]*{_spelt("password")}|{_spelt("token")}|{_spelt("secret")}(?:_|%5f){_spelt("key")}"""
# A value may hold quotes of its own: only what ends it in an address ends it here.
VALUE = r"""(?:'[^']*'|"[^"]*")?[^& \r\n]*"""
SECRET = re.compile(rf"""((?:^|[?&\s'"])(?:{NAMES})=){VALUE}""", re.IGNORECASE)


class Redaction(logging.Filter):
    """Masks secrets in what a line is made of."""

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


def redact_access_logs() -> None:
    """Put the filter on the web servers' own logs, which have handlers of their own."""
    for name in ("uvicorn.access", "django.server", "gunicorn.access"):
        log = logging.getLogger(name)
        if not any(isinstance(known, Redaction) for known in log.filters):
            log.addFilter(Redaction())
