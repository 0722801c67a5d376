"""Who is offered a job next: nobody beyond a limit, nobody behind a crowd, nothing while it could be."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from jobs.fairness import Waiting, choose
from records.slots import Held

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def job(pk: int, **fields) -> Waiting:
    common = {"client": 1, "tenant": 1, "repository": 1, "endpoint": 1}
    limits = {"client_limit": 100, "repository_limit": 100, "endpoint_limit": 100}
    return Waiting(**{"pk": pk, "is_recovery": False, "since": NOON + timedelta(seconds=pk), **common, **limits, **fields})


def chosen(waiting: list[Waiting], held: Held | None = None) -> list[int]:
    return [each.pk for each in choose(waiting, held or Held())]


def test_the_oldest_comes_first() -> None:
    assert chosen([job(3), job(1), job(2)]) == [1, 2, 3]


def test_clients_take_turns_whatever_the_length_of_their_queues() -> None:
    crowd = [job(number, client=1) for number in range(100)]
    assert chosen([*crowd, job(500, client=2), job(501, client=2)])[:4] == [0, 500, 1, 501]


def test_tenants_take_turns_whatever_the_number_of_their_clients() -> None:
    crowd = [job(number, tenant=1, client=number) for number in range(100)]
    assert chosen([*crowd, job(500, tenant=2, client=500)])[:2] == [0, 500]


def test_who_was_served_longest_ago_is_next() -> None:
    waiting = [job(1, client=1, client_served=7), job(2, client=2, client_served=5), job(3, client=3, client_served=6)]
    assert chosen(waiting) == [2, 3, 1]
    waiting = [job(1, tenant=1, client=1, tenant_served=7), job(2, tenant=2, client=2, tenant_served=5)]
    assert chosen(waiting) == [2, 1]


def test_restores_come_before_backups() -> None:
    assert chosen([job(1), job(2, is_recovery=True, client=2, client_served=9)]) == [2, 1]


def test_each_limit_limits_and_what_is_held_counts() -> None:
    for kind in ("client", "repository", "endpoint"):
        waiting = [job(number, **{f"{kind}_limit": 3}) for number in range(5)]
        assert chosen(waiting) == [0, 1, 2], kind
        held = Held()
        held.take(1, 1, 1, 2)
        assert chosen(waiting, held) == [0], kind


def test_a_job_that_finds_no_slot_holds_up_nobody_behind_it() -> None:
    waiting = [job(1, repository=1, repository_limit=1), job(2, repository=1, repository_limit=1), job(3, repository=2)]
    assert chosen(waiting) == [1, 3]


small = st.integers(1, 3)
jobs = st.builds(
    dict, is_recovery=st.booleans(), client=small, tenant=small, repository=small, endpoint=small,
    client_served=st.integers(0, 3), tenant_served=st.integers(0, 3),
)  # fmt: skip


@given(st.lists(jobs, max_size=30), small, small, small)
def test_no_limit_is_passed_and_no_slot_is_left_that_somebody_waits_for(fields, clients, repositories, endpoints) -> None:
    limits = {"client_limit": clients, "repository_limit": repositories, "endpoint_limit": endpoints}
    waiting = [job(number, **each, **limits) for number, each in enumerate(fields)]
    offered = choose(waiting, Held())
    counts = {kind: Counter(getattr(each, kind) for each in offered) for kind in ("client", "repository", "endpoint")}
    assert all(count <= limits[f"{kind}_limit"] for kind, counter in counts.items() for count in counter.values())
    for left in set(waiting) - set(offered):
        assert any(counts[kind][getattr(left, kind)] == limits[f"{kind}_limit"] for kind in counts)


@given(st.lists(st.tuples(small, st.integers(1, 6)), min_size=1, max_size=20))
def test_nobody_is_served_twice_while_somebody_else_waits(arrivals) -> None:
    """One slot, round after round, as `jobs.offering` keeps the count of turns."""
    waiting = [job(number, client=client) for number, (client, count) in enumerate(arrivals) for _ in range(count)]
    waiting = [job(number, client=each.client) for number, each in enumerate(waiting)]
    served: Counter[int] = Counter()
    round_number = 0
    while waiting:
        round_number += 1
        now = [job(each.pk, client=each.client, client_served=served[each.client], endpoint_limit=1) for each in waiting]
        (first,) = choose(now, Held())
        longest_ago = min(served[each.client] for each in waiting)
        assert served[first.client] == longest_ago
        served[first.client] = round_number
        waiting = [each for each in waiting if each.pk != first.pk]
