"""Who is offered a job next. Pure: what waits and what is held goes in, what is to be offered comes out.

Restores come before backups. Of each, tenants take turns; of a tenant, its clients take turns; of a client, the oldest comes
first. Whoever was served longest ago is next, so that a hundred jobs of one keep nobody else waiting for longer than one turn.
A job whose client, repository or endpoint has no slot left is passed over, and those behind it are not held up.
"""

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from records.slots import Held


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job that waits. `since`: when it could first have been offered; `…_served`: the larger, the later."""

    pk: int
    is_recovery: bool
    since: datetime
    client: int
    tenant: int
    repository: int
    endpoint: int
    client_limit: int
    repository_limit: int
    endpoint_limit: int
    client_served: int = 0
    tenant_served: int = 0


def choose(waiting: Iterable[Waiting], held: Held) -> list[Waiting]:
    """Return the jobs that are to be offered, in their order; `held` then counts their slots too."""
    jobs = sorted(waiting, key=lambda job: (not job.is_recovery, job.since, job.pk))
    return [chosen for _kind, group in itertools.groupby(jobs, lambda job: job.is_recovery) for chosen in _in_turns(group, held)]


def _in_turns(jobs: Iterable[Waiting], held: Held) -> Iterable[Waiting]:
    tenants: defaultdict[int, defaultdict[int, deque[Waiting]]] = defaultdict(lambda: defaultdict(deque))
    for job in jobs:
        tenants[job.tenant][job.client].append(job)
    # Whoever is served in this round comes after all who were not.
    turns = itertools.count(1)
    waiting_tenants = []
    for tenant, clients in tenants.items():
        heads = [(0, queue[0].client_served, queue[0].since, client) for client, queue in clients.items()]
        heapq.heapify(heads)
        first = min((queue[0] for queue in clients.values()), key=lambda each: each.since)
        waiting_tenants.append((0, first.tenant_served, first.since, tenant, heads))
    heapq.heapify(waiting_tenants)
    while waiting_tenants:
        *_order, tenant, heads = heapq.heappop(waiting_tenants)
        served = _next_of(tenants[tenant], heads, held, turns)
        if served is not None:
            yield served
            heapq.heappush(waiting_tenants, (next(turns), 0, served.since, tenant, heads))


def _next_of(
    queues: dict[int, deque[Waiting]], heads: list[tuple[int, int, datetime, int]], held: Held, turns: "itertools.count[int]"
) -> Waiting | None:
    """Take the next job of a tenant that has its slots; None if none has."""
    while heads:
        *_order, client = heapq.heappop(heads)
        queue = queues[client]
        # Slots are only taken in a round, so that whoever finds none now will find none later.
        while queue and not _has_slots(queue[0], held):
            queue.popleft()
        if queue:
            job = queue.popleft()
            held.take(job.client, job.repository, job.endpoint)
            if queue:
                heapq.heappush(heads, (next(turns), 0, queue[0].since, client))
            return job
    return None


def _has_slots(job: Waiting, held: Held) -> bool:
    return (
        held.clients[job.client] < job.client_limit
        and held.repositories[job.repository] < job.repository_limit
        and held.endpoints[job.endpoint] < job.endpoint_limit
    )
