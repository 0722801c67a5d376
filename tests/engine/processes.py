"""The programs that work on a repository, each as a process of its own: `python -m engine`, which can be killed, and restic."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.backends import Credentials, open_store
from engine.cli.run import LOCKED
from engine.repository import Repository
from tests.engine.conftest import PASSWORD

TOP = Path(__file__).resolve().parents[2]
ENGINE = "engine"
HASTY = "tests.engine.hasty"


@dataclass(frozen=True, slots=True)
class Ended:
    """What a program came to. `status`: its exit status, the negative signal if it was killed."""

    status: int
    out: str
    err: str

    @property
    def summary(self) -> Any:
        """What it printed as its outcome. Raises AssertionError, with what it said instead, if it failed."""
        assert self.status == 0, f"exit status {self.status}: {self.err[-4000:]}"
        return json.loads(self.out.splitlines()[-1])

    @property
    def is_refused(self) -> bool:
        """Whether it failed since others are at work on the repository."""
        return self.status == LOCKED


class Running:
    """A program that is running, in a process group of its own."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._popen = subprocess.Popen(
            command, cwd=TOP, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip

    def end(self) -> Ended:
        """Return once the program has ended, and with it every process that it forked: all of them hold its output open."""
        try:
            out, err = self._popen.communicate()
        except BaseException:
            self._kill()
            raise
        return Ended(self._popen.returncode, out, err)

    def kill_after(self, seconds: float) -> Ended:
        """Kill all of its processes at once, so many seconds after it was started, unless it ends before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        self._kill()
        ended = self.end()
        assert ended.status in (0, -signal.SIGKILL), f"exit status {ended.status}: {ended.err[-4000:]}"
        return ended

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Site:
    """A repository, as programs get at it."""

    location: str
    credentials: Credentials | None = None

    def init(self) -> None:
        Repository.init(open_store(self.location, credentials=self.credentials), PASSWORD)

    def open(self) -> Repository:
        return Repository.open(open_store(self.location, credentials=self.credentials), PASSWORD)

    def start(self, *arguments: object, program: str = ENGINE) -> Running:
        """Start a verb of the engine, which speaks JSON."""
        return Running([sys.executable, "-m", program, *map(str, arguments), "--json"], self._environment())

    def engine(self, *arguments: object, program: str = ENGINE) -> Ended:
        """Run a verb of the engine to its end."""
        return self.start(*arguments, program=program).end()

    def restic(self, *arguments: object) -> str:
        """Run restic and return what it prints. Raises AssertionError, with what it says, if it fails."""
        done = Running(["restic", "--no-cache", *map(str, arguments)], self._environment()).end()
        assert done.status == 0, f"restic {arguments[0]}: {done.err[-4000:]}{done.out[-4000:]}"
        return done.out

    def _environment(self) -> dict[str, str]:
        named = {"RESTIC_REPOSITORY": self.location, "RESTIC_PASSWORD": PASSWORD}
        if self.credentials:
            named |= {"AWS_ACCESS_KEY_ID": self.credentials.access_key, "AWS_SECRET_ACCESS_KEY": self.credentials.secret_key}
        return os.environ | named
