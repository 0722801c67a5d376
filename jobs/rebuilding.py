"""Rebuilding the server after its database was lost: rows from a recovery kit, plans and records from the repositories themselves.

What is there already stays, so that it may be done again. Of a repository's plans the newest word counts: the kit's, or what the
server wrote into the repository since (`jobs.definitions`). Plans come back paused: nothing fires before somebody has looked.
Each is made by itself, so that one that cannot be does not stop the others. Clients keep their numbers, which the names of
their repositories end with. Accounts, tokens and settings do not come back, and agents join anew.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.color import no_style
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException

from backupcenter.api.reading import validated
from clients.models import Client
from engine.errors import EngineError
from jobs.definitions.reading import Found, find_definitions
from jobs.models import BackupPlan, KeptPlans, SigningKey
from jobs.planning import check_plan
from jobs.recoverykit import ENDPOINT_FIELDS, TENANT_FIELDS
from jobs.scheduling import set_next_fire
from jobs.serializers import PlanFieldsSerializer, plan_detail
from jobs.showing import show_new_plans
from records.adopting import Comparison, sync_records
from storage.models import Endpoint, Repository, Tenant


class Outcome(StrEnum):
    MADE = "made"
    PRESENT = "there already"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What became of a plan. `was_paused`: also before the loss; `reason`: why it was refused."""

    uuid: str
    name: str
    outcome: Outcome
    was_paused: bool = False
    reason: str = ""


@dataclass(slots=True)
class Rebuilt:
    """What was made anew, and by location what each repository gave (or why nothing).

    `definitions`: what a repository had of its plans; `words`: since when the plans are as they were made, and whether the
    repository itself said so.
    """

    repositories: list[Repository] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    plans: dict[str, list[PlanOutcome]] = field(default_factory=dict)
    definitions: dict[str, Found | EngineError] = field(default_factory=dict)
    words: dict[str, tuple[datetime, bool]] = field(default_factory=dict)
    compared: dict[str, Comparison | EngineError] = field(default_factory=dict)


class _CannotMake(Exception):
    """A plan or client cannot be made; the message says why."""


def rebuild(content: dict[str, Any]) -> Rebuilt:
    """Make what the kit and the repositories hold and is not there: stores, clients, plans, and a record of each snapshot."""
    made = Rebuilt()
    with transaction.atomic():
        places = _stores(content, made)
        _signing_key(content)
    keys = {str(row["public_key"]) for row in content.get("signing_keys", [])}
    for location, repository in places.items():
        try:
            made.definitions[location] = _find(repository, keys)
        except EngineError as error:
            made.definitions[location] = error
    with transaction.atomic():
        _plans(content, places, made)
    details = _details(content, places.values())
    for location, repository in places.items():
        try:
            made.compared[location] = sync_records(repository, details=details)
        except EngineError as error:
            made.compared[location] = error
    return made


def _stores(content: dict[str, Any], made: Rebuilt) -> dict[str, Repository]:
    """Return the repositories by their locations in the kit."""
    endpoints, tenants, places = {}, {}, {}
    for row in content["endpoints"]:
        fields = {name: row[name] for name in ENDPOINT_FIELDS}
        endpoints[row["address"]], _new = Endpoint.objects.get_or_create(address=row["address"], defaults=fields)
    for row in content["tenants"]:
        fields = {name: row[name] for name in TENANT_FIELDS}
        key = {"endpoint": endpoints[row["endpoint"]], "username": row["username"]}
        tenants[row["number"]], _new = Tenant.objects.get_or_create(**key, defaults=fields)
    for row in content["repositories"]:
        place = {"tenant": tenants[row["tenant"]], "bucket": row["bucket"], "prefix": row["prefix"]}
        fields = {"password": row["password"], "repository_id": row["repository_id"]}
        places[row["location"]], is_new = Repository.objects.get_or_create(**place, defaults=fields)
        if is_new:
            made.repositories.append(places[row["location"]])
    return places


def _signing_key(content: dict[str, Any]) -> None:
    """Sign on with the key that auditors know, unless there is one by now; kits had none once."""
    for row in content.get("signing_keys", []):
        SigningKey.objects.get_or_create(pk=1, defaults=row)


def _find(repository: Repository, keys: set[str]) -> Found:
    """Return what the repository has of its plans; from here on that is known to be the server's own."""
    found = find_definitions(repository, keys)
    if found.newest is not None:
        # Without a fingerprint, so that they are written anew, as they are by then.
        fields = {"snapshots": found.snapshots, "written_at": found.newest[0], "fingerprint": ""}
        KeptPlans.objects.update_or_create(repository=repository, defaults=fields)
    return found


def _plans(content: dict[str, Any], places: dict[str, Repository], made: Rebuilt) -> None:
    """Make the clients and plans, of each repository as its newest word has them."""
    kit_time = datetime.fromisoformat(content["made_at"])
    told_clients = [(kit_time, row) for row in content["clients"]]
    told_plans: dict[str, list[dict[str, Any]]] = {location: [] for location in places}
    for detail in content["plans"]:
        told_plans[detail["repository"]].append(detail)
    for location, found in made.definitions.items():
        made.words[location] = kit_time, False
        if isinstance(found, Found) and found.newest is not None and found.newest[0] > kit_time:
            time, definitions = found.newest
            made.words[location] = time, True
            told_clients += [(time, row) for row in definitions.clients]
            told_plans[location] = definitions.plans
    clients = _clients(told_clients, made)
    plans: list[BackupPlan] = []
    for location, details in told_plans.items():
        made.plans[location] = [_outcome(detail, places[location], clients, plans) for detail in details]
    show_new_plans(plans)


def _clients(told: list[tuple[datetime, dict[str, Any]]], made: Rebuilt) -> dict[int, Client | _CannotMake]:
    """Make the clients as the newest word has each, and return them by their numbers then."""
    newest = {row["id"]: row for _time, row in sorted(told, key=lambda each: each[0])}
    clients: dict[int, Client | _CannotMake] = {}
    for number, row in newest.items():
        try:
            clients[number] = _client(row, made)
        except _CannotMake as error:
            clients[number] = error
    _count_on(Client)
    return clients


def _client(row: dict[str, Any], made: Rebuilt) -> Client:
    addresses = Q()
    for name in ("ipv4", "ipv6"):
        if row[name] is not None:
            addresses |= Q(**{name: row[name]})
    if (known := Client.objects.filter(addresses).first()) is not None:
        return known
    if (known := Client.objects.filter(pk=row["id"]).first()) is not None:
        if known.hostname != row["hostname"]:
            names = {"number": row["id"], "old": row["hostname"], "new": known.hostname}
            raise _CannotMake(_("client %(number)d was %(old)s, and is %(new)s by now") % names)
        return known
    client = Client.objects.create(**row)
    made.clients.append(client)
    return client


def _count_on(model: type[Client]) -> None:
    """Let the database number on from the highest number that was given by us."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
            cursor.execute(statement)


def _outcome(
    detail: dict[str, Any], repository: Repository, clients: dict[int, Client | _CannotMake], made: list[BackupPlan]
) -> PlanOutcome:
    """Make a plan, unless it is there, and add it to those that were made; return what became of it."""
    told: dict[str, Any] = {"uuid": str(detail.get("uuid")), "name": str(detail.get("backup_name"))}
    try:
        with transaction.atomic():
            plan = _make_plan(detail, repository, clients)
    except (ValidationError, APIException, _CannotMake) as error:
        return PlanOutcome(**told, outcome=Outcome.REFUSED, reason=_sentence(error))
    except (DatabaseError, KeyError, TypeError, ValueError) as error:
        return PlanOutcome(**told, outcome=Outcome.REFUSED, reason=f"{type(error).__name__}: {error}")
    if plan is None:
        return PlanOutcome(**told, outcome=Outcome.PRESENT)
    made.append(plan)
    return PlanOutcome(**told, outcome=Outcome.MADE, was_paused=bool(detail.get("paused")))


def _make_plan(detail: dict[str, Any], repository: Repository, clients: dict[int, Client | _CannotMake]) -> BackupPlan | None:
    """Make a plan, paused; None: it is there already. Raises ValidationError and others for one that makes no sense."""
    number = uuid.UUID(detail["uuid"])
    if BackupPlan.objects.filter(uuid=number).exists():
        return None
    # The kit has the client as the API shows it, a repository its number.
    client = clients[detail["client"]["id"] if isinstance(detail["client"], dict) else detail["client"]]
    if isinstance(client, _CannotMake):
        raise client
    place = {"client": client, "tenant": repository.tenant, "repository": repository, "bucket": repository.bucket}
    plan = BackupPlan(uuid=number, paused=True, **place, **validated(PlanFieldsSerializer, detail))
    check_plan(plan)
    set_next_fire(plan)
    plan.save()
    return plan


def _sentence(error: Exception) -> str:
    said = getattr(error, "message_dict", None) or getattr(error, "detail", None)
    if not isinstance(said, dict):
        return str(error)
    return "; ".join(f"{name}: {' '.join(map(str, texts))}" for name, texts in said.items())


def _details(content: dict[str, Any], places: Iterable[Repository]) -> dict[uuid.UUID, dict[str, Any]]:
    """Return by UUID what records are to remember of their plans: as they are, or else as the kit has them."""
    details = {uuid.UUID(detail["uuid"]): detail for detail in content["plans"]}
    rows = BackupPlan.objects.filter(repository__in=list(places))
    nested = ("client", "tenant__endpoint", "repository__tenant__endpoint")
    return details | {plan.uuid: plan_detail(plan) for plan in rows.select_related(*nested)}
