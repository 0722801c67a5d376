"""The server as the agent sees it: a few HTTPS requests. Tokens stand in headers only, and in no message."""

import os
from dataclasses import dataclass
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from agent.allowed import allowed_names
from agent.host import load_average, os_name
from engine import __version__

TIMEOUT_S = (10, 60)
# Progress is told again in a moment, and a request that hangs must not cost the lease that it is to renew.
PROGRESS_TIMEOUT_S = (5, 10)
# A request that changes something may be repeated: each names the attempt that it is about.
RETRIES = Retry(total=3, backoff_factor=0.5, backoff_jitter=0.5, status_forcelist=(502, 503, 504), allowed_methods=None)
# A job that waits is offered again only after half a minute: a server that is back sooner is to be asked again sooner, too.
CLAIM_RETRIES = RETRIES.new(total=6, backoff_max=5)
UNAUTHORIZED = 401
UPGRADE_REQUIRED = 426
NO_RETRIES = Retry(total=0)
# Which of the agents' protocols this one speaks (docs/agent.md).
PROTOCOL = 7
ABOUT_US = {"User-Agent": f"backupcenter-agent/{__version__}", "Agent-Protocol": str(PROTOCOL)}


class CenterError(Exception):
    """The server refused; the message is its own sentence."""


class CenterUnreachable(CenterError):
    """The server does not answer, for now."""


class AgentUnsupported(CenterUnreachable):
    """The server does not understand this agent, until one of them is updated; the message says which."""


class Refused(CenterError):
    """The attempt does not count any more, or the job is none of this agent's."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How the server answers a report. `every_s`: how long the next one may take, 0 if it does not say."""

    cancel: bool
    every_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How the server answers a heartbeat. `every_s`: how long the next one may take, 0 if it does not say."""

    login_due: bool
    every_s: float


class Tokens(Protocol):
    """Where the agent's token comes from (`agent.login.Login`)."""

    @property
    def token(self) -> str: ...

    def note_accepted(self, token: str) -> None: ...

    def other_than(self, refused: str) -> str | None:
        """Return another token to try, None if there is none."""


@dataclass(frozen=True, slots=True)
class OneToken:
    """A token that is never another; empty: none."""

    token: str = ""

    def note_accepted(self, token: str) -> None:
        pass

    def other_than(self, refused: str) -> str | None:
        return None


class Center:
    """The server at `url`. `tokens`: the agent's own, none before it has joined. Safe for use from several threads."""

    def __init__(self, url: str, tokens: Tokens | str = "") -> None:
        self._url = url.rstrip("/")
        self._tokens = OneToken(tokens) if isinstance(tokens, str) else tokens

    def join(self, token: str, hostname: str) -> dict[str, Any]:
        """Exchange a join token for the agent's own. Raises CenterError."""
        about = {"hostname": hostname, "ipv4": None, "ipv6": None, "os": os_name(), "version": __version__}
        # By the nonce the server knows who repeats the request because the answer was lost.
        return self._post("join", {"token": token, "nonce": os.urandom(16).hex(), **about})

    def heartbeat(self, running: list[str], *, started: bool = False, broker_refused: bool = False) -> Seen:
        """Say that the agent is there and works on the jobs `running`; return what the server wants.

        `started`: it was just started; `broker_refused`: the broker did not take its login. Raises CenterError.
        """
        about = {"version": __version__, "os": os_name(), "load": load_average()}
        said = {"running": running, "started": started, "broker_refused": broker_refused, "allowed": allowed_names()}
        answer = self._post("heartbeat", {**about, **said})
        return Seen(bool(answer.get("login_due")), _seconds(answer.get("beat_every_s")))

    def next_login(self) -> tuple[str, str]:
        """Return a new token and broker address; what the agent has now is good until it uses them. Raises CenterError."""
        answer = self._post("login", {})
        try:
            return str(answer["token"]), str(answer["broker"])
        except KeyError as error:
            raise CenterError(f"what answers at {self._url} is not the server") from error

    def claim(self, job: str, attempt: int) -> dict[str, Any]:
        """Make a job this agent's own and return its specification. Raises Refused, CenterError."""
        # By the nonce the server knows a claim that is repeated because its answer was lost.
        return self._post(f"job/{job}/claim", {"attempt": attempt, "nonce": os.urandom(16).hex()}, retries=CLAIM_RETRIES)

    def report_progress(
        self, job: str, attempt: int, progress: dict[str, Any], course: dict[str, Any] | None = None
    ) -> Heard:
        """Renew the lease; return what the server wants. Raises Refused, CenterError.

        `course`: what `agent.course` tells, None: as it was told before.
        """
        path, body = f"job/{job}/progress", {"attempt": attempt, "progress": progress}
        if course is not None:
            body["course"] = course
        # An agent whose token does not count any more has no business going on.
        answer = self._post(path, body, timeout_s=PROGRESS_TIMEOUT_S, retries=NO_RETRIES, refusals=(401, 403, 404, 409))
        return Heard(bool(answer.get("cancel")), _seconds(answer.get("report_every_s")))

    def finish(self, job: str, report: dict[str, Any]) -> None:
        """Say how an attempt ended: attempt, outcome, error, result, unreadable, commands and course. Raises as `claim`."""
        self._post(f"job/{job}/finish", report)

    def look_question(self, number: str) -> dict[str, Any]:
        """Return what the look is about (`agent.looking`). Raises Refused if nobody waits for it any more, CenterError."""
        return self._post(f"look/{number}/question", {})

    def answer_look(self, number: str, answer: dict[str, Any]) -> None:
        """Tell what was seen. Raises Refused, CenterError."""
        self._post(f"look/{number}/answer", answer)

    def stores(self) -> dict[str, Any]:
        """Return the server's time and the stores that this host's jobs use, without what opens them. Raises CenterError."""
        return self._post("stores", {})

    def report_checks(self, checks: list[dict[str, str]]) -> None:
        """Tell what was found by the doctor (`agent.doctor.Check`). Raises CenterError."""
        self._post("checks", {"checks": checks})

    def _post(
        self,
        path: str,
        body: dict[str, Any],
        *,
        timeout_s: tuple[int, int] = TIMEOUT_S,
        retries: Retry = RETRIES,
        refusals: tuple[int, ...] = (404, 409),
    ) -> dict[str, Any]:
        # A session of its own for each request: they are few, seconds apart, and come from several threads.
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=retries))
            token = self._tokens.token
            answer = self._send(session, path, body, token, timeout_s)
            tried = {token}
            while answer.status_code == UNAUTHORIZED:
                other = self._tokens.other_than(token)
                if other is None or other in tried:
                    break
                tried.add(token := other)
                answer = self._send(session, path, body, token, timeout_s)
        if answer.ok:
            self._tokens.note_accepted(token)
            try:
                return dict(answer.json())
            except (ValueError, TypeError) as error:
                # Something before the server speaks in its place: a proxy, a page about maintenance.
                raise CenterUnreachable(f"what answers at {self._url} is not the server") from error
        sentence = _sentence(answer)
        if answer.status_code == UPGRADE_REQUIRED:
            raise AgentUnsupported(sentence)
        if answer.status_code in refusals:
            raise Refused(sentence)
        if answer.status_code >= 500:
            raise CenterUnreachable(sentence)
        raise CenterError(sentence)

    def _send(
        self, session: requests.Session, path: str, body: dict[str, Any], token: str, timeout_s: tuple[int, int]
    ) -> requests.Response:
        headers = {**ABOUT_US, "Authorization": f"Agent {token}"} if token else ABOUT_US
        try:
            return session.post(f"{self._url}/api/agent/{path}", json=body, headers=headers, timeout=timeout_s)
        except requests.RequestException as error:
            raise CenterUnreachable(f"the server at {self._url} does not answer ({type(error).__name__})") from error


def _sentence(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered with status {answer.status_code}"


def _seconds(told: Any) -> float:
    return float(told) if isinstance(told, int | float) else 0.0
