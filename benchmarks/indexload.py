"""What the index of a repository takes in a process of its own: time, memory and lookups. Run by `benchmarks/growth.py`.

python -m benchmarks.indexload REPOSITORY        (RESTIC_PASSWORD in the environment; prints JSON)
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Sequence

from benchmarks.measure import memory_of
from engine.backends import open_store
from engine.blob import BlobType
from engine.repository import Repository

LOOKUPS = 100_000


def main() -> None:
    repository = Repository.open(open_store(sys.argv[1]), os.environ["RESTIC_PASSWORD"])
    before = memory_of(os.getpid())
    begun = time.perf_counter()
    repository.load_index()
    load_s = time.perf_counter() - begun
    gc.collect()
    after = memory_of(os.getpid())
    known = [blob_id for blob_id, _ in itertools.islice(repository.index.blobs(BlobType.DATA), 10 * LOOKUPS)]
    rng = random.Random(6)
    figures = {
        "load_s": load_s,
        "kept_bytes": after - before,
        "hits_s": _lookup_s(repository, rng.choices(known, k=LOOKUPS)),
        "misses_s": _lookup_s(repository, [rng.randbytes(32) for _ in range(LOOKUPS)]),
    }
    print(json.dumps(figures))


def _lookup_s(repository: Repository, ids: Sequence[bytes]) -> float:
    has = repository.index.has
    begun = time.perf_counter()
    for blob_id in ids:
        has(BlobType.DATA, blob_id)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
