"""Rebuilding the server after its database was lost: rows from a recovery kit, records from the repositories themselves.

What is there already stays, so that it may be done again. Plans come back paused: nothing fires before somebody has looked.
Clients keep their numbers, which the names of their repositories end with. Accounts, tokens and settings do not come back, and
agents join anew.
"""

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.core.management.color import no_style
from django.db import connection, transaction
from django.db.models import Q

from clients.models import Client
from engine.errors import EngineError
from jobs.models import BackupPlan, SigningKey
from jobs.planning import check_plan
from jobs.recoverykit import ENDPOINT_FIELDS, TENANT_FIELDS
from jobs.scheduling import set_next_fire
from jobs.serializers import PlanFieldsSerializer
from jobs.showing import show_plan
from records.adopting import Comparison, sync_records
from storage.models import Endpoint, Repository, Tenant


@dataclass(slots=True)
class Rebuilt:
    """What was made anew, and by location what each repository gave (or why nothing)."""

    repositories: list[Repository] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    plans: list[BackupPlan] = field(default_factory=list)
    compared: dict[str, Comparison | EngineError] = field(default_factory=dict)


def rebuild(content: dict[str, Any]) -> Rebuilt:
    """Make what the kit holds and is not there, and a record of each snapshot. Raises ValidationError for a plan of no sense."""
    made = Rebuilt()
    with transaction.atomic():
        places = _stores(content, made)
        clients = {row["id"]: _client(row, made) for row in content["clients"]}
        _count_on(Client)
        _signing_key(content)
        for detail in content["plans"]:
            _plan(detail, places[detail["repository"]], clients[detail["client"]["id"]], made)
    details = {uuid.UUID(detail["uuid"]): detail for detail in content["plans"]}
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


def _client(row: dict[str, Any], made: Rebuilt) -> Client:
    same = Q(pk=row["id"])
    for name in ("ipv4", "ipv6"):
        if row[name] is not None:
            same |= Q(**{name: row[name]})
    known = Client.objects.filter(same).first()
    if known is not None:
        return known
    client = Client.objects.create(**row)
    made.clients.append(client)
    return client


def _signing_key(content: dict[str, Any]) -> None:
    """Sign reports on with the key that auditors know, unless there is one by now; kits had none once."""
    for row in content.get("signing_keys", []):
        SigningKey.objects.get_or_create(pk=1, defaults=row)


def _count_on(model: type[Client]) -> None:
    """Let the database number on from the highest number that was given by us."""
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
            cursor.execute(statement)


def _plan(detail: dict[str, Any], repository: Repository, client: Client, made: Rebuilt) -> None:
    if BackupPlan.objects.filter(uuid=detail["uuid"]).exists():
        return
    form = PlanFieldsSerializer(data=detail)
    form.is_valid(raise_exception=True)
    place = {"client": client, "tenant": repository.tenant, "repository": repository, "bucket": repository.bucket}
    plan = BackupPlan(uuid=uuid.UUID(detail["uuid"]), paused=True, **place, **form.validated_data)
    check_plan(plan)
    set_next_fire(plan)
    plan.save()
    show_plan(plan)
    made.plans.append(plan)
