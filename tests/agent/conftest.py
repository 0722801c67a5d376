"""A server to speak to, and jobs on a real repository."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.allowed import ALLOWED_VARIABLE
from engine.backends import open_store
from engine.repository import Repository
from tests.agent.center import FakeCenter, fake_center

PASSWORD = "the repository's password"


@pytest.fixture
def center() -> Iterator[FakeCenter]:
    with fake_center() as running:
        yield running


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    Repository.init(open_store(str(tmp_path / "repository")), PASSWORD).close()
    return tmp_path / "repository"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "text").write_text("hello")
    (directory / "random").write_bytes(os.urandom(100_000))
    return directory


@pytest.fixture
def backup_job(repository: Path) -> Callable[[Path], dict[str, Any]]:
    """Return a function that makes the specification of a backup of a directory."""

    def make(source: Path) -> dict[str, Any]:
        return {
            "job": "backup-12",
            "attempt": 1,
            "kind": "backup",
            "lease_s": 30,
            "repository": {"location": str(repository), "password": PASSWORD, "access_key": None, "secret_key": None},
            "backup": {"include": [str(source)], "exclude": [], "host": "here", "tags": ["plan-x"], "time": 1600000000},
        }

    return make


@pytest.fixture
def allow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that writes the file of what this host allows."""

    def write(text: str) -> Path:
        place = tmp_path / "allowed.toml"
        place.write_text(text)
        place.chmod(0o644)
        monkeypatch.setenv(ALLOWED_VARIABLE, str(place))
        return place

    return write
