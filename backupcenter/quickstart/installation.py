"""What a quick-start installation keeps between runs, all below its state directory.

`installation.json` (mode 0600) holds the keys and passwords; the database, Redis' files, the agent's state, logs and the
directory store lie beside it.
"""

import fcntl
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

# The directory store's address has to fit into the database.
STATE_LENGTH = 240


class QuickstartError(Exception):
    """Something the person at the terminal can mend; the message is one sentence."""


@dataclass(slots=True)
class Secrets:
    """The secrets and names that were drawn when the installation was made."""

    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    encryption_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    redis_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    administrator_password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    bucket: str = field(default_factory=lambda: f"backupcenter-{secrets.token_hex(4)}")


class Installation:
    """A state directory, locked for as long as this process lives."""

    def __init__(self, state: Path, port: int) -> None:
        self.state = state.resolve()
        if len(str(self.state)) > STATE_LENGTH:
            raise QuickstartError(f"the path of the state directory is longer than {STATE_LENGTH} characters")
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("log", "redis", "agent", "store", "restored"):
                (self.state / name).mkdir(mode=0o700, exist_ok=True)
            self._lock = self._take_lock()
        except OSError as error:
            raise QuickstartError(f"the state directory {state} cannot be used: {error.strerror}") from error
        self.secrets = self._load_secrets()
        self.port = _choose_port(port)
        self.redis_port = _choose_port(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str:
        return f"redis://:{quote(self.secrets.redis_password, safe='')}@127.0.0.1:{self.redis_port}/0"

    def environment(self) -> dict[str, str]:
        """The environment that every program of the server runs in; the store's own keys are not part of it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BACKUPCENTER_"))}
        return inherited | {
            "DJANGO_SETTINGS_MODULE": "backupcenter.settings",
            "BACKUPCENTER_SECRET_KEY": self.secrets.secret_key,
            "BACKUPCENTER_ENCRYPTION_KEYS": self.secrets.encryption_key,
            "BACKUPCENTER_DATABASE_URL": f"sqlite://{quote(str(self.state / 'backupcenter.sqlite3'))}",
            "BACKUPCENTER_REDIS_URL": self.redis_url,
            "BACKUPCENTER_PUBLIC_URL": self.url,
            "BACKUPCENTER_DRILL_DIRECTORY": str(self.state / "drills"),
            # The machine's proxy has no business with what talks to itself.
            **dict.fromkeys(("NO_PROXY", "no_proxy"), _without_proxy(inherited)),
            # The checkout may be what is backed up: programs must not write into it while it is compared.
            "PYTHONPYCACHEPREFIX": str(self.state / "pycache"),
        }

    def agent_environment(self) -> dict[str, str]:
        """The environment of this host's agent, which is to know nothing of the server's secrets."""
        return {
            name: value for name, value in self.environment().items() if not name.startswith(("BACKUPCENTER_", "DJANGO_"))
        }

    def set_up_database(self) -> tuple[str, bool]:
        """Create or upgrade the database and its administrator.

        Returns an API token for this run, and whether the administrator still has the first password.
        """
        os.environ.update(self.environment())
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections
        from knox.models import AuthToken

        from accounts.models import User

        call_command("migrate", verbosity=0, interactive=False)
        administrator = User.objects.filter(username="admin").first()
        if administrator is None:
            administrator = User.objects.create_superuser("admin", password=self.secrets.administrator_password)
        _, token = AuthToken.objects.create(administrator)
        unchanged = administrator.check_password(self.secrets.administrator_password)
        connections.close_all()
        return token, unchanged

    def _take_lock(self) -> IO[str]:
        lock = (self.state / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise QuickstartError(f"another quickstart is already running in {self.state}") from error
        return lock

    def _load_secrets(self) -> Secrets:
        path = self.state / "installation.json"
        if path.exists():
            try:
                stored: dict[str, Any] = json.loads(path.read_text())
                return Secrets(**stored)
            except (ValueError, TypeError) as error:
                raise QuickstartError(f"{path} is damaged; restore it, or start anew with another --state") from error
            except OSError as error:
                raise QuickstartError(f"{path} cannot be read: {error.strerror}") from error
        drawn = Secrets()
        partial = path.with_suffix(".new")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(drawn), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return drawn


def _without_proxy(environment: dict[str, str]) -> str:
    known = environment.get("no_proxy") or environment.get("NO_PROXY")
    return ",".join(filter(None, (known, "127.0.0.1", "localhost")))


def _choose_port(port: int) -> int:
    """Return `port` if it is free, a free one for 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise QuickstartError(f"port {port} cannot be used ({error}); choose another with --port") from error
        return int(probe.getsockname()[1])
