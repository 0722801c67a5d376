"""Looking at a client's directories through its agent, for who makes a plan: what is there, and how much.

A look's number goes to the client's queue; the agent asks over HTTPS what it stands for, and answers there. Question and answer
lie in the cache for a minute, for the account that asked and the client that was asked; nothing of them is stored.
"""

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from django.core.cache import cache
from django.http import Http404
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from accounts.audit.acts import note
from accounts.models import User
from backupcenter.api.exceptions import Conflict
from clients.compatibility import LOOKING_PROTOCOL, speaks
from clients.models import Client
from records.publishing import send

LOOK = "agent.look"
KEPT_S = 60
ESTIMATED_FOR_S = 20

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _needing_redis(do: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    @wraps(do)
    def done(*arguments: Parameters.args, **named: Parameters.kwargs) -> Result:
        try:
            return do(*arguments, **named)
        except (RedisError, OSError) as error:
            raise Conflict(_("The agent cannot be asked, since Redis does not answer. Try again in a moment.")) from error

    return done


def ask_for_listing(user: User, client: Client, path: str, offset: int = 0) -> str:
    """Ask for a page of a directory's entries; return the look's number. Raises Conflict if the agent cannot answer."""
    return _ask(user, client, {"kind": "list", "path": path, "offset": offset})


def ask_for_estimate(user: User, client: Client, include: list[str], exclude: list[str]) -> str:
    """Ask how much there is below paths; return the look's number. Raises Conflict if the agent cannot answer."""
    return _ask(user, client, {"kind": "estimate", "include": include, "exclude": exclude, "seconds": ESTIMATED_FOR_S})


@_needing_redis
def answer_to(user: User, number: str) -> dict[str, Any] | None:
    """Return what the agent answered: `listing`, `estimate` or `problem`; None: it has not yet.

    Raises Http404 if the look is another's or too long ago, Conflict.
    """
    kept = cache.get(_key(number))
    if kept is None or kept["user"] != user.pk:
        raise Http404(_("The agent did not answer within a minute, or its answer is too old: ask again."))
    answer: dict[str, Any] | None = kept["answer"]
    return answer


@_needing_redis
def question_of(client: Client, number: str) -> dict[str, Any]:
    """Return what the client's agent is asked. Raises Http404 if nobody waits for it, Conflict."""
    question: dict[str, Any] = _of_client(client, number)["question"]
    return question


@_needing_redis
def take_answer(client: Client, number: str, answer: dict[str, Any]) -> None:
    """Keep what the client's agent answers, for a minute. Raises Http404 if nobody waits for it, Conflict."""
    cache.set(_key(number), {**_of_client(client, number), "answer": answer}, KEPT_S)


def cannot_look(client: Client) -> str | None:
    """Return why the client's agent cannot be asked, as a sentence; None if it can."""
    if client.last_seen is None:
        return _("%(client)s has no agent yet: give it a join token first, or type the paths.") % {"client": client}
    if not client.online:
        return _("The agent of %(client)s does not answer: start it, or type the paths.") % {"client": client}
    if not speaks(client.protocol, LOOKING_PROTOCOL):
        text = _("The agent of %(client)s is too old to show its files: install the server's version of it, or type the paths.")
        return text % {"client": client}
    return None


@_needing_redis
def _ask(user: User, client: Client, question: dict[str, Any]) -> str:
    if problem := cannot_look(client):
        raise Conflict(problem)
    number = secrets.token_urlsafe(24)
    cache.set(_key(number), {"user": user.pk, "client": client.pk, "question": question, "answer": None}, KEPT_S)
    if not send(LOOK, [{"look": number}], client.queue):
        raise Conflict(_("The agent cannot be asked, since Redis does not answer. Try again in a moment."))
    # Who has looked at which host is in the audit log.
    note(client)
    return number


def _of_client(client: Client, number: str) -> dict[str, Any]:
    kept: dict[str, Any] | None = cache.get(_key(number))
    if kept is None or kept["client"] != client.pk:
        raise Http404(_("Nobody waits for this."))
    return kept


def _key(number: str) -> str:
    return f"look.{number}"
