"""What is read ahead is bounded, and comes in order."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.readahead import map_ahead


@pytest.fixture
def workers():
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_results_come_in_the_order_of_the_items_and_no_more_is_ahead_than_may_be(workers, limit):
    begun = []
    taken = 0
    for result in map_ahead(workers, lambda item: begun.append(item) or item * 2, range(50), limit):
        assert len(begun) - taken <= limit + 1
        assert result == taken * 2
        taken += 1
    assert taken == 50


def test_an_item_too_heavy_to_be_beside_others_is_alone(workers):
    weights = [1, 1, 100, 1, 1]
    begun = []

    def act(number):
        begun.append(number)
        return number

    results = map_ahead(workers, act, range(5), 10, lambda number: weights[number])
    assert next(results) == 0
    assert 2 not in begun
    assert [next(results) for _ in range(2)] == [1, 2]
    assert 3 not in begun
    assert list(results) == [3, 4]


def test_what_fails_fails_when_it_is_asked_for(workers):
    results = map_ahead(workers, lambda item: 1 // item, [1, 0, 1], 3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
