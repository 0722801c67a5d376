"""The keys of a repository, each of which opens it with a password of its own: list, add and remove them, change one's password.

The content stays sealed under the same master keys: whoever had a password, and kept them, can still read it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime

from engine import keys
from engine.errors import DataDamaged, EngineError, FileMissing
from engine.gotime import parse_time
from engine.repository import Repository
from engine.store import FileKind


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key, and for whom it was made. `id`: its file's name; `is_current`: the one that the repository was opened with.

    `created` is None where the file does not say when.
    """

    id: str
    is_current: bool
    username: str
    hostname: str
    created: datetime | None


def list_keys(repository: Repository, on_error: Callable[[str], None]) -> list[KeyInfo]:
    """Return the keys, the oldest first; damaged ones are told to `on_error`. Raises StoreError's family."""
    found = []
    for name, _ in repository.store.list(FileKind.KEYS):
        try:
            key = keys.KeyFile.parse(repository.store.get(FileKind.KEYS, name))
        except (DataDamaged, FileMissing) as error:
            on_error(f"key {name}: {error}")
            continue
        found.append(KeyInfo(name, name == repository.key_name, key.username, key.hostname, _moment(key.created)))
    return sorted(found, key=lambda key: (key.created is not None and key.created.timestamp(), key.id))


def add_key(repository: Repository, password: str, *, username: str = "", hostname: str = "") -> str:
    """Let `password` open the repository too; return the key's id. The names are this user's and host's unless given.

    Raises EngineError for an empty password, RepositoryLocked, StoreError's family.
    """
    _refuse_empty(password)
    with repository.lock():
        return _add(repository, password, username, hostname)


def remove_key(repository: Repository, key_id: str) -> str:
    """Remove the key of an id, which may be shortened, and return its whole id.

    Raises EngineError for the key in use and for what is no key or begins several, RepositoryLocked, LockLost, StoreError's
    family.
    """
    with repository.lock(exclusive=True) as lock:
        names = [name for name, _ in repository.store.list(FileKind.KEYS)]
        fitting = [name for name in names if name.startswith(key_id)] if key_id else []
        if not fitting:
            raise EngineError(f"there is no key {key_id!r}")
        if len(fitting) > 1:
            raise EngineError(f"the key id {key_id!r} is ambiguous: it begins {len(fitting)} ids")
        if fitting[0] == repository.key_name:
            raise EngineError("the key that opened the repository cannot be removed")
        # Another process may have removed it; with ours gone, this could be the last key.
        if repository.key_name not in names:
            raise EngineError("the key that opened the repository is gone: open it again with another password")
        lock.require_held()
        repository.store.delete(FileKind.KEYS, fitting[0])
        return fitting[0]


def change_password(repository: Repository, password: str, *, username: str = "", hostname: str = "") -> str:
    """Put a key for `password` in the place of the one in use, and return its id. Raises as `add_key` does, and LockLost."""
    _refuse_empty(password)
    with repository.lock(exclusive=True) as lock:
        new = _add(repository, password, username, hostname)
        lock.require_held()
        repository.store.delete(FileKind.KEYS, repository.key_name)
        repository.key_name = new
        return new


def _add(repository: Repository, password: str, username: str, hostname: str) -> str:
    store, material = repository.store, repository.key.material
    name = keys.add_key(store, password, material, username=username, hostname=hostname).name
    # A key that does not open what it should must never become the only one.
    if keys.KeyFile.parse(store.get(FileKind.KEYS, name)).open(password) != material:
        store.delete(FileKind.KEYS, name)
        raise DataDamaged("the new key does not open the repository; it was removed again")
    return name


def _moment(text: str) -> datetime | None:
    try:
        moment = parse_time(text)
    except ValueError:
        return None
    # The clocks of some places cannot show the calendar's ends.
    return moment if MINYEAR < moment.year < MAXYEAR else None


def _refuse_empty(password: str) -> None:
    if not password:
        raise EngineError("the new password is empty")
