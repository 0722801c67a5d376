"""Stores for the tests of this room."""

import socket
from collections.abc import Iterator

import pytest

from tests.storage.scripted_store import ScriptedStore, scripted_store


@pytest.fixture
def store() -> Iterator[ScriptedStore]:
    with scripted_store() as running:
        yield running


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
