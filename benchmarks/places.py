"""Where the repositories of a comparison lie: a directory, or an S3 store that can tell what it was asked."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.connections import ConnectionCounter
from benchmarks.generate import total_size
from engine.backends import Credentials, open_store
from engine.errors import BucketMissing
from engine.store import FileKind, Store
from tests.services.ceph import CephGateway, ceph_gateway, missing_programs
from tests.services.s3 import ObjectStore, object_store

VERBS = ("PUT", "GET", "LIST", "HEAD", "DELETE")


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a store was asked in one run. `requests`: how many of each of VERBS; None stands for what the store does not tell."""

    requests: dict[str, int]
    bytes_up: int | None
    bytes_down: int | None
    connections: int | None


class Place(Protocol):
    """`variables`: what programs need in their environment; `is_timed`: whether the time that they take here says anything."""

    variables: Mapping[str, str]
    is_timed: bool

    def address(self, home: Path) -> str:
        """Return the repository of a program whose own files lie in `home`, in restic's spelling."""

    def clear(self, address: str) -> None:
        """Delete a repository, if it is there."""

    def size(self, address: str) -> int:
        """Return the bytes that a repository takes."""

    def begin(self) -> None:
        """Count requests anew."""

    def traffic(self) -> Traffic | None:
        """Return what was asked since `begin`, None if it is not known."""


class Directory:
    """A directory below each program's home, which goes with it."""

    variables: Mapping[str, str] = {}
    is_timed = True

    def address(self, home: Path) -> str:
        return str(home / "repository")

    def clear(self, address: str) -> None:
        pass

    def size(self, address: str) -> int:
        return total_size(Path(address))

    def begin(self) -> None:
        pass

    def traffic(self) -> Traffic | None:
        return None


class Bucket:
    """A bucket. `url`: `http[s]://host[:port]/bucket[/prefix]`. Deletes nothing that it did not name itself."""

    is_timed = True

    def __init__(self, url: str, access_key: str, secret_key: str) -> None:
        self._url = url.rstrip("/")
        self._credentials = Credentials(access_key, secret_key)
        self.variables: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}

    def address(self, home: Path) -> str:
        return f"s3:{self._url}/{home.parent.name}/{home.name}"

    def clear(self, address: str) -> None:
        with self._store(address) as store, contextlib.suppress(BucketMissing):
            for kind in set(FileKind) - {FileKind.CONFIG}:
                for name, _ in list(store.list(kind)):
                    store.delete(kind, name)
            store.delete(FileKind.CONFIG, "")

    def size(self, address: str) -> int:
        with self._store(address) as store:
            return sum(size for kind in set(FileKind) - {FileKind.CONFIG} for _, size in store.list(kind))

    def begin(self) -> None:
        pass

    def traffic(self) -> Traffic | None:
        return None

    @contextlib.contextmanager
    def _store(self, address: str) -> Iterator[Store]:
        with contextlib.closing(open_store(address, credentials=self._credentials)) as store:
            yield store


class MemoryBucket(Bucket):
    """A bucket of the store in memory, whose answers take time from who asks."""

    is_timed = False

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(f"{store.url}/bucket", "key", "secret")
        self._memory = store

    def begin(self) -> None:
        self._memory.begin()

    def traffic(self) -> Traffic | None:
        requests = self._memory.requests
        return Traffic(
            _count((request.method, request.key) for request in requests),
            bytes_up=sum(request.received for request in requests),
            bytes_down=sum(request.sent for request in requests),
            connections=self._memory.connections,
        )


# As the gateway logs each request: method, path, status and the bytes of the answer.
_LOGGED = re.compile(rb'"([A-Z]+) /[^/?]*/?([^ ?]*)\S* HTTP/1\.1" \d+ (\d+) ')


class CephBucket(Bucket):
    """A bucket of a Ceph gateway on this machine, whose log says what it was asked."""

    def __init__(self, gateway: CephGateway) -> None:
        super().__init__(f"{gateway.url}/bucket", *gateway.make_user("benchmark"))
        self._gateway = gateway
        self._log = gateway.directory / "client.rgw.log"
        self._connections = ConnectionCounter(int(gateway.url.rpartition(":")[2]))
        self._logged = self._received = 0

    def clear(self, address: str) -> None:
        super().clear(address)
        # By itself the gateway takes an hour to give back space, of which it has little.
        self._gateway.admin("gc", "process", "--include-all")

    def begin(self) -> None:
        self._logged, self._received = self._flushed_log(), self._received_bytes()
        self._connections.begin()

    def traffic(self) -> Traffic | None:
        connections = self._connections.end()
        received = self._received_bytes() - self._received
        size = self._flushed_log()
        with self._log.open("rb") as log:
            log.seek(self._logged)
            logged = _LOGGED.findall(log.read(size - self._logged))
        counts = _count((method.decode(), key.decode()) for method, key, _ in logged)
        # Of what was put the gateway logs the size as well.
        sent = sum(int(size) for method, _, size in logged if method == b"GET")
        return Traffic(counts, bytes_up=received, bytes_down=sent, connections=connections)

    def _flushed_log(self) -> int:
        """Return the size of the log once it has all that was asked, of which the gateway writes down later than it answers."""
        self._gateway.ask("log", "flush")
        return self._log.stat().st_size

    def _received_bytes(self) -> int:
        return int(json.loads(self._gateway.ask("perf", "dump", "rgw"))["rgw"]["put_b"])


def _count(requests: Iterator[tuple[str, str]]) -> dict[str, int]:
    counted = Counter("LIST" if method == "GET" and not key else method for method, key in requests)
    return {verb: counted[verb] for verb in VERBS}


@contextlib.contextmanager
def open_place(name: str | None) -> Iterator[Place]:
    """Return where repositories go: None: a directory, `ceph`: a new gateway here, `memory`, or the URL of a bucket, whose keys
    are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment.
    """
    if name is None:
        yield Directory()
    elif name == "memory":
        with object_store() as store:
            yield MemoryBucket(store)
    elif name == "ceph":
        if missing := missing_programs():
            raise SystemExit(f"this machine lacks {', '.join(missing)}")
        with ceph_gateway() as gateway:
            yield CephBucket(gateway)
    else:
        yield Bucket(name, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
