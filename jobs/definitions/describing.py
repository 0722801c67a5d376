"""What a repository holds of the plans that back up into it: a JSON text, and the server's signature of it in a file beside.

It is the plans and their clients as they can be made again, nothing else: no key, no password, no address for pings, no command of
drills. The signature is of the text with its purpose before it, so that nothing else that the key signs can pass for it. The text
names its repository, so that it counts in no other, and its time, so that an older one does not count beside a newer.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from django.utils.translation import gettext as _

from clients.models import Client
from jobs.models import BackupPlan
from jobs.planning import CHANGEABLE
from jobs.recoverykit import CLIENT_FIELDS
from jobs.signing import is_signed, signature_of
from records.adopting import SERVER_TAG
from storage.models import Repository

FORMAT = 1
TAG = f"{SERVER_TAG}plans"
PATH = "/backupcenter/plans.json"
SIGNATURE_PATH = f"{PATH}.sig"
PLAN_FIELDS = ("uuid", *CHANGEABLE, "paused")
READ_AT_ONCE = 2000
_PURPOSE = b"plans of Backup Center\n"


class UnusableDefinitions(Exception):
    """A file is not what the server wrote of the plans of this repository. The message says why."""


class ForgedDefinitions(UnusableDefinitions):
    """It was not signed, or not for this repository: somebody has put it there."""


@dataclass(frozen=True, slots=True)
class Definitions:
    """The plans that back up into a repository, and their clients."""

    clients: list[dict[str, Any]]
    plans: list[dict[str, Any]]

    def fingerprint(self, key: str) -> str:
        """Return what is the same as long as the text, but for its time, and the public key are."""
        return hashlib.sha256(json.dumps([FORMAT, key, self.clients, self.plans]).encode()).hexdigest()

    def encode(self, repository_id: str, written_at: datetime) -> str:
        """Return the text."""
        about = {"format": FORMAT, "repository": repository_id, "written_at": written_at.isoformat()}
        return json.dumps({**about, "clients": self.clients, "plans": self.plans}, ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def decode(cls, text: bytes, signature: bytes, repository_id: str, keys: Collection[str]) -> "tuple[datetime, Definitions]":
        """Return what a text says that was signed by one of the public `keys`, and when it was. Raises UnusableDefinitions."""
        # Nothing of it is looked at before.
        _require_signed(text, signature, keys)
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise UnusableDefinitions(_("it was written by another version of the server"))
            if content["repository"] != repository_id:
                raise ForgedDefinitions(_("it was signed for another repository"))
            return datetime.fromisoformat(content["written_at"]).astimezone(UTC), cls(content["clients"], content["plans"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnusableDefinitions(_("it is not in the form that the server writes")) from error


def describe_plans(repository: Repository | None = None) -> Iterator[tuple[int, Definitions]]:
    """Yield each repository's number and its plans, if it has any; of all repositories in two queries."""
    plans, clients = BackupPlan.objects.order_by("repository_id", "pk"), Client.objects.all()
    if repository is not None:
        plans = plans.filter(repository=repository)
        clients = clients.filter(pk__in=plans.order_by().values("client"))
    known = {row["id"]: row for row in clients.order_by("pk").values(*CLIENT_FIELDS)}
    rows = plans.values("repository_id", "client_id", *PLAN_FIELDS).iterator(chunk_size=READ_AT_ONCE)
    for number, group in groupby(rows, key=itemgetter("repository_id")):
        shown = [_plan(row) for row in group]
        yield number, Definitions([known[key] for key in sorted({plan["client"] for plan in shown})], shown)


def sign(text: str) -> str:
    """Return what the file with the signature holds."""
    return base64.b64encode(signature_of(_PURPOSE + text.encode())).decode() + "\n"


def _require_signed(text: bytes, signature: bytes, keys: Collection[str]) -> None:
    if not keys:
        raise UnusableDefinitions(_("the kit has no key that its signature could be judged by; one that is made anew has"))
    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except binascii.Error:
        raw = b""
    if not any(is_signed(_PURPOSE + text, raw, key) for key in keys):
        raise ForgedDefinitions(_("its signature is not that of this server: somebody else wrote it, or changed it"))


def _plan(row: dict[str, Any]) -> dict[str, Any]:
    """Return a plan as the API takes it, times in Unix seconds."""
    times = {name: None if row[name] is None else int(row[name].timestamp()) for name in ("start_time", "end_time")}
    return {"uuid": str(row["uuid"]), "client": row["client_id"], **{name: row[name] for name in PLAN_FIELDS[1:]}, **times}
