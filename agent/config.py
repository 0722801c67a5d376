"""What an agent remembers of the server that it joined: a file of mode 0600 in its state directory."""

import contextlib
import errno
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "agent.json"
SYSTEM_STATE = "/var/lib/backupcenter-agent"


class NotJoined(Exception):
    """There is nothing in the state directory to run with; the message says what to do."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The server's address, and what the agent was given when it joined, or instead of that later.

    `broker`: a Redis URL with the agent's password. `previous_…`: the login before this one, until this one has opened.
    """

    center: str
    client: int
    hostname: str
    queue: str
    token: str = field(repr=False)
    broker: str = field(repr=False)
    previous_token: str = field(default="", repr=False)
    previous_broker: str = field(default="", repr=False)


def default_state() -> Path:
    """Return the state directory to use when none is named."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path(SYSTEM_STATE)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "backupcenter-agent"


def load_config(state: Path) -> AgentConfig:
    """Read the configuration. Raises NotJoined."""
    path = state / FILE
    try:
        return AgentConfig(**json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise NotJoined(f"this host has not joined yet: there is no {path}; run `backupcenter-agent join` first") from error
    except (OSError, ValueError, TypeError) as error:
        raise NotJoined(f"{path} cannot be read; join again") from error


def save_config(state: Path, config: AgentConfig) -> None:
    """Write the configuration, whole or not at all."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(state / FILE, json.dumps(asdict(config), indent=1))


def require_writable(state: Path) -> None:
    """Raise OSError if the state directory cannot be made or written to: a join token is good for one attempt."""
    place = state.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def write_whole(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is there complete, or as it was before."""
    # mkstemp makes the file with mode 0600.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _sync_directory(directory: Path) -> None:
    """Have the name of a new file survive a loss of power; where directories cannot be opened there is no way to."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
