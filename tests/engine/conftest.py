"""An empty repository in a directory, a tree with every kind of entry, and restic on that repository."""

import os
import random
import secrets
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.backends import open_store
from engine.cli import main
from engine.repository import Repository
from tests.engine.trees import write_every_kind

PASSWORD = "secret"


@pytest.fixture(scope="session")
def empty_repository(tmp_path_factory) -> Path:
    """Made once; `location` is a copy of it."""
    path = tmp_path_factory.mktemp("repository") / "empty"
    Repository.init(open_store(str(path)), PASSWORD)
    return path


@pytest.fixture
def location(empty_repository, tmp_path) -> Path:
    return shutil.copytree(empty_repository, tmp_path / "repository")


@pytest.fixture
def repository(location) -> Repository:
    return Repository.open(open_store(str(location)), PASSWORD)


@pytest.fixture
def engine(location, monkeypatch, capfdbinary) -> Iterator[Callable[..., tuple[int, bytes, bytes]]]:
    """Return a function that runs a command on the repository: exit status, standard output, standard error."""
    monkeypatch.setenv("RESTIC_REPOSITORY", str(location))
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(*arguments: object) -> tuple[int, bytes, bytes]:
        status = main(list(map(str, arguments)))
        out, err = capfdbinary.readouterr()
        assert PASSWORD.encode() not in out + err
        assert b"Traceback" not in err
        return status, out, err

    yield run
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.fixture
def source(tmp_path) -> Path:
    root = tmp_path / "source"
    write_every_kind(root)
    return root


@pytest.fixture
def restic() -> Callable[..., str]:
    """Return a function that runs restic on a repository and returns what it prints; it must succeed."""

    def run(location: Path, *arguments: object) -> str:
        done = subprocess.run(
            ["restic", "--no-cache", "-r", str(location), *map(os.fsdecode, arguments)],
            env=os.environ | {"RESTIC_PASSWORD": PASSWORD}, capture_output=True, text=True, errors="surrogateescape",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run


@pytest.fixture
def soak_share(pytestconfig) -> float:
    """The part of its length that a soak is to have."""
    return pytestconfig.getoption("--soak-share")


@pytest.fixture
def rng(pytestconfig) -> random.Random:
    """Chance, which can be had again by the seed that is printed."""
    seed = pytestconfig.getoption("--soak-seed")
    seed = secrets.randbits(32) if seed is None else seed
    print(f"\n--soak-seed {seed}")
    return random.Random(seed)
