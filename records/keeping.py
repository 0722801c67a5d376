"""Keep rules: which backups of a plan stay, by restic's rules (`engine.retention`).

They are an object in the API, `{"last": 7, "daily": 14, "within": "30d"}`, and a line in the console: `last 7, daily 14, within
30d`.
"""

import re
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from engine.errors import InvalidPolicy
from engine.retention import UNLIMITED, Duration, KeepPolicy

COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
SPANS = ("within", *(f"within_{period}" for period in COUNTS[1:]))
RULES = (*COUNTS, *SPANS)
# More backups than a plan makes in ten years that runs every five minutes.
HIGHEST_COUNT = 1_000_000
WITHOUT_LIMIT = "unlimited"


def clean_rules(rules: object) -> dict[str, Any]:
    """Return keep rules as they are stored; none at all is an empty object. Raises ValueError, saying what is wrong."""
    if rules is None:
        return {}
    if not isinstance(rules, Mapping):
        raise ValueError(_('Keep rules are an object like {"last": 7, "daily": 14, "within": "30d"}.'))
    unknown = sorted(str(name) for name in set(rules) - set(RULES))
    if unknown:
        known = ", ".join(RULES)
        raise ValueError(_("There is no keep rule %(name)s; there are: %(known)s.") % {"name": unknown[0][:50], "known": known})
    return {name: _clean(name, rules[name]) for name in RULES if rules.get(name) is not None}


def keep_policy(rules: Mapping[str, Any]) -> KeepPolicy:
    """Return the engine's policy for rules of `clean_rules`."""
    given: dict[str, Any] = {name: rules[name] for name in RULES if name in rules}
    given |= {name: Duration.parse(rules[name]) for name in SPANS if name in rules}
    return KeepPolicy(**given)


def rules_text(rules: Mapping[str, Any]) -> str:
    """Return rules as the console shows and takes them."""
    shown = ((name, rules[name]) for name in RULES if name in rules)
    return ", ".join(f"{name} {WITHOUT_LIMIT if value == UNLIMITED else value}" for name, value in shown)


def parse_rules(text: str) -> dict[str, Any]:
    """Return the rules of a line like `last 7, daily 14, within 30d`. Raises ValueError."""
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _blank, value = part.partition(" ") if "=" not in part else part.partition("=")
        name, value = name.strip().lower().replace("-", "_"), value.strip()
        if name in found:
            raise ValueError(_("The keep rule %(name)s stands there twice.") % {"name": name[:50]})
        if name in COUNTS and re.fullmatch(r"[0-9]{1,9}", value):
            found[name] = int(value)
        else:
            found[name] = UNLIMITED if name in COUNTS and value == WITHOUT_LIMIT else value
    return clean_rules(found)


def _clean(name: str, value: object) -> int | str:
    if name in SPANS:
        try:
            span = Duration.parse(value if isinstance(value, str) else "")
        except InvalidPolicy:
            span = Duration()
        if not span:
            message = _("%(name)s must be a span like 30d, 12h, 6m or 1y6m: numbers with h, d, m (months) or y.")
            raise ValueError(message % {"name": name})
        return str(span)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not isinstance(value, int) or not is_number or not (value == UNLIMITED or 1 <= value <= HIGHEST_COUNT):
        message = _("%(name)s must be a number from 1 to %(highest)d, or -1 (unlimited) for all.")
        raise ValueError(message % {"name": name, "highest": HIGHEST_COUNT})
    return value
