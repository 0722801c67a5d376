"""The cache counts, and runs nothing that somebody else has written into Redis."""

import os
import pickle

import pytest
import redis
from django.core.cache.backends.redis import RedisCache

from backupcenter import settings


@pytest.fixture
def cache(redis_url) -> RedisCache:
    cache = RedisCache(redis_url, settings.CACHES["default"])
    cache.clear()
    return cache


def test_it_counts(cache) -> None:
    cache.add("count", 0, timeout=60)
    assert [cache.incr("count"), cache.incr("count"), cache.get("count")] == [1, 2, 2]


def test_it_gives_back_what_it_was_given(cache) -> None:
    cache.set("key", {"a": [1, None, "ü"]})
    assert cache.get("key") == {"a": [1, None, "ü"]}


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def test_it_runs_nothing_that_was_written_into_redis(cache, redis_url, tmp_path) -> None:
    mark = tmp_path / "mark"
    redis.Redis.from_url(redis_url).set(cache.make_key("key"), pickle.dumps(Payload(f"touch {mark}")))
    with pytest.raises(ValueError):
        cache.get("key")
    assert not mark.exists()
