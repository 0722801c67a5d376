"""What is left of an entry is told of any entry that can be read, or that it cannot be."""

import pytest

from engine.errors import DataDamaged
from engine.index import Index
from engine.tree import iter_raw_nodes
from engine.treerepair import Entry, judge_entry


def _judged(raw, calls):
    if calls:
        return _judged(raw, calls - 1)
    return judge_entry(Entry.of(raw), Index())


@pytest.mark.parametrize("calls", [0, 20])
def test_an_entry_that_nests_as_deeply_as_can_be_read_is_judged_or_refused(calls):
    reached = set()
    for depth in range(800, 1000):
        entry = '{"name":"a","type":"file","content":["%s"],"x":%s}' % ("11" * 32, "[" * depth + "]" * depth)  # noqa: UP031
        try:
            (raw,) = iter_raw_nodes(f'{{"nodes":[{entry}]}}'.encode())
        except DataDamaged:
            reached.add("unreadable")
            continue
        try:
            _judged(raw, calls)
            reached.add("judged")
        except DataDamaged:
            reached.add("refused")
    assert reached >= {"unreadable", "judged"}
