import os
from datetime import UTC, datetime

import pytest

from engine.commands.backup import backup
from tests.engine.repair.looking import opened


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "plain"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    for number in range(3):
        (root / "sub" / f"{number}").write_bytes(os.urandom(30_000))
    (root / "sub" / "deep" / "leaf").write_bytes(b"leaf")
    return root


@pytest.fixture
def filled(location, repository, plain):
    """Two snapshots; the second adds a file of several pieces, in packs and an index file of its own."""
    backup(repository, [plain], host="h", time=datetime(2024, 5, 1, tzinfo=UTC))
    (plain / "large").write_bytes(os.urandom(6 << 20))
    backup(opened(location), [plain], host="h", time=datetime(2024, 5, 2, tzinfo=UTC))
    return location
