"""Ways to damage a repository in a directory, and to die in the middle of changing one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.repository import Repository
from engine.store import FileKind


def flip_bit(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def packs_of(location: Path) -> list[Path]:
    return sorted((location / "data").glob("*/*"))


def is_killed(act: Callable[[], Any], repository: Repository, number: int) -> bool:
    """Do `act` in a process that is killed just before its change of this number (from 0) to the repository's store.

    False if it makes fewer changes, and so gets through.
    """
    child = os.fork()
    if child == 0:
        try:
            _die_at_change(repository, number)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert status == 0, "the process failed instead of being killed"
    return False


def _die_at_change(repository: Repository, number: int) -> None:
    store: Any = repository.store
    changes = 0

    def mortal(change: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal changes
            if changes == number:
                os.kill(os.getpid(), signal.SIGKILL)
            changes += 1
            return change(*arguments)

        return step

    begin_pack = store.begin_pack

    def begin() -> Any:
        upload = begin_pack()
        upload.finish = mortal(upload.finish)
        return upload

    store.begin_pack = mortal(begin)
    store.put, store.delete = mortal(store.put), mortal(store.delete)


def names(location: Path, kind: FileKind) -> set[str]:
    return {path.name for path in (location / kind.value).rglob("*") if path.is_file() and not path.name.startswith(".")}
