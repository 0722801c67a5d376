"""Which agents this server understands, and what those are told that it does not.

With every request an agent says what it is and which protocol it speaks:

    User-Agent: backupcenter-agent/0.1.0
    Agent-Protocol: 7

One from before these headers speaks protocol 1. Agents whose protocol is not between the two below are refused with 426, and their
jobs wait until they were updated. docs/agent.md tells the protocols apart.
"""

import re

from django.db import models
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from packaging.version import InvalidVersion, Version
from rest_framework.exceptions import APIException
from rest_framework.request import Request

from engine import __version__

OLDEST_PROTOCOL, NEWEST_PROTOCOL = 1, 7
# Since this one agents replace their logins.
REPLACING_PROTOCOL = 3
# Since which agents run the commands of a plan; those before would leave them out.
COMMANDS_PROTOCOL = 4
# Since which agents answer what people ask of their host.
LOOKING_PROTOCOL = 5
# Since which agents only look what a restore would change; those before would restore.
DRY_RUN_PROTOCOL = 6
# Since which agents drill restores; those before would restore.
DRILL_PROTOCOL = 7
_UNTOLD_PROTOCOL = 1
_AGENT = re.compile(r"backupcenter-agent/([\w.+!-]{1,64})", re.ASCII)


class AgentStatus(models.TextChoices):
    """How an agent fits this server."""

    CURRENT = "current", gettext_lazy("current")
    OUTDATED = "outdated", gettext_lazy("works, but is older than the server")
    UNSUPPORTED = "unsupported", gettext_lazy("not understood by this server")


class AgentUnsupported(APIException):
    """The agent speaks a protocol that this server does not (426)."""

    status_code = 426
    default_code = "upgrade_required"


def told_version(request: Request) -> str | None:
    """Return the version of the agent that a request comes from, None if it does not say."""
    agent = _AGENT.match(request.headers.get("User-Agent", ""))
    return agent[1] if agent else None


def told_protocol(request: Request) -> int:
    """Return the protocol that an agent speaks; 0, which no server understands, if what it says is no number."""
    told = request.headers.get("Agent-Protocol", str(_UNTOLD_PROTOCOL))
    return int(told) if re.fullmatch(r"[0-9]{1,4}", told) else 0


def require_supported(request: Request) -> None:
    """Raise AgentUnsupported, which says what to do, if the agent is not understood."""
    protocol = told_protocol(request)
    if is_understood(protocol):
        return
    names = {"agent": told_version(request) or "?", "server": __version__}
    if protocol > NEWEST_PROTOCOL:
        raise AgentUnsupported(
            _("This agent (%(agent)s) is too new for the server (%(server)s): update the server first.") % names
        )
    raise AgentUnsupported(
        _("This agent (%(agent)s) is too old for the server: install version %(server)s of it on this host and restart it.") % names
    )


def is_understood(protocol: int | None) -> bool:
    """Whether this server speaks the protocol; None: an agent has said nothing of it yet."""
    return OLDEST_PROTOCOL <= (_UNTOLD_PROTOCOL if protocol is None else protocol) <= NEWEST_PROTOCOL


def speaks(protocol: int | None, needed: int) -> bool:
    """Whether an agent that has said to speak `protocol` does all that `needed` has."""
    return (_UNTOLD_PROTOCOL if protocol is None else protocol) >= needed


def understood(prefix: str = "") -> models.Q:
    """Match clients whose agents are understood. `prefix`: the path to them."""
    protocol = f"{prefix}protocol"
    return models.Q(**{f"{protocol}__isnull": True}) | models.Q(**{f"{protocol}__range": (OLDEST_PROTOCOL, NEWEST_PROTOCOL)})


def agent_status(version: str, protocol: int | None) -> AgentStatus | None:
    """Return how an agent fits that has said this of itself; None: it has said nothing yet."""
    if not version:
        return None
    if not is_understood(protocol):
        return AgentStatus.UNSUPPORTED
    try:
        is_old = Version(version) < Version(__version__)
    except InvalidVersion:
        is_old = True
    return AgentStatus.OUTDATED if is_old else AgentStatus.CURRENT
