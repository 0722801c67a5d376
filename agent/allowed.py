"""Which commands the server may have this host run: a file that the host's administrator owns, and nobody else can change.

    path = "/usr/local/bin:/usr/bin:/bin"      # where programs are looked for; this is what holds without it

    [[command]]
    name = "dump-shop"                         # a plan says {"command": ["dump-shop"]}
    run = ["pg_dump", "--format=custom", "shop"]

    [[command]]
    name = "dump"                              # a plan says {"command": ["dump", "database=crm"]}
    run = ["pg_dump", "--format=custom", "{database}"]
    parameters = { database = ["shop", "crm"] }    # these values, or a text: a regular expression for all of the value
    environment = { PGPASSFILE = "/etc/backupcenter/pgpass" }

    [[preset]]                                 # a plan says "presets": ["postgresql"]; see agent.presets
    kind = "postgresql"

It may also bound where the console may look around (`agent.looking`): `browse = ["/srv"]`, or `browse = []` for nowhere.

The server knows the names. What they run stands here alone; without the file nothing is allowed. docs/sources.md is for people.
"""

import errno
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.presets import Expansion, Preset

ALLOWED_FILE = Path("/etc/backupcenter/allowed.toml")
# Of the agent's environment, for a file elsewhere.
ALLOWED_VARIABLE = "BACKUPCENTER_ALLOWED"
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PLACE = re.compile(r"\{([A-Za-z0-9_]+)\}", re.ASCII)
_LARGEST = 1 << 20
NAMES_TOLD = 500


class NotAllowed(Exception):
    """The host does not allow what a plan asks for; the message names the file to edit."""


class AllowedFileBroken(Exception):
    """The file is there and does not count, for a reason that the message gives."""


class AllowedCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command with a name. `run`: its arguments, in which `{parameter}` stands for a value that the plan gives."""

    name: str
    run: list[str]
    parameters: dict[str, str | list[str]] = {}
    environment: dict[str, str] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str = USUAL_PATH
    command: list[AllowedCommand] = []
    preset: list[Preset] = []
    # Where directories may be looked into; None: wherever the agent can.
    browse: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it is run. `label`: its name, as the plan and the record have it."""

    label: str
    arguments: tuple[str, ...]
    timeout_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    # Of one that comes before the backup: whether that goes on without it.
    may_fail: bool = False


class Allowed:
    """What a file allows; `place` is the file."""

    def __init__(self, place: Path, content: _File | None = None) -> None:
        self._place = place
        self._path = content.path if content else USUAL_PATH
        self._commands = {command.name: command for command in content.command} if content else {}
        self._presets = {preset.called: preset for preset in content.preset} if content else {}
        self._browse = content.browse if content else None

    @property
    def commands(self) -> list[str]:
        return sorted(self._commands)

    @property
    def presets(self) -> list[str]:
        return sorted(self._presets)

    def command(self, words: Sequence[str], timeout_s: float, *, may_fail: bool = False) -> Command:
        """Return what a plan means by a name and `parameter=value` words. Raises NotAllowed."""
        name, *given = words
        allowed = self._commands.get(name)
        if allowed is None:
            raise self._refusal(f"the command “{name}”")
        values = self._values(allowed, given)
        arguments = tuple(_PLACE.sub(lambda place: values[place[1]], word) for word in allowed.run)
        return Command(name, arguments, timeout_s, {"PATH": self._path, **allowed.environment}, may_fail)

    def preset(self, name: str) -> Expansion:
        """Return what a preset stands for. Raises NotAllowed."""
        preset = self._presets.get(name)
        if preset is None:
            raise self._refusal(f"the preset “{name}”")
        return preset.expand()

    def require_shown(self, path: str) -> None:
        """Raise NotAllowed unless all below a path may be looked at. `path`: absolute, without dots."""
        if self._browse is not None and not any(_is_within(path, place) for place in self._browse):
            raise NotAllowed(f"this host does not allow to look at {path}; to change that, add it to “browse” in {self._place}")

    def shown_below(self, path: str) -> set[str] | None:
        """Return which entries of a directory may be seen, None if all: of one above what may be, the way there.

        `path`: absolute, without dots. Raises NotAllowed if there are none.
        """
        below = [place for place in self._browse or () if place != path and _is_within(place, path)]
        if not below or any(_is_within(path, place) for place in self._browse or ()):
            self.require_shown(path)
            return None
        start = len(path.rstrip("/")) + 1
        return {place[start:].partition("/")[0] for place in below}

    def missing_programs(self) -> list[tuple[str, str]]:
        """Return (name, program) of what is allowed and cannot be found."""
        wanted = [(command.name, command.run[0], command.environment) for command in self._commands.values()]
        for preset in self._presets.values():
            expansion = preset.expand()
            steps = [step.command[0] for step in (*expansion.before, *expansion.after)]
            programs = {*steps, *(stream.command[0] for stream in expansion.streams)}
            wanted += [(preset.called, program, preset.environment) for program in sorted(programs)]
        return [
            (name, program)
            for name, program, environment in wanted
            if shutil.which(program, path=environment.get("PATH", self._path)) is None
        ]

    def of_preset(self, name: str, arguments: Sequence[str], timeout_s: float, *, may_fail: bool = False) -> Command:
        """Return a command that a preset consists of."""
        environment = {"PATH": self._path, **self._presets[name].environment}
        return Command(f"{name}: {os.path.basename(arguments[0])}", tuple(arguments), timeout_s, environment, may_fail)

    def _values(self, allowed: AllowedCommand, given: Sequence[str]) -> dict[str, str]:
        values: dict[str, str] = {}
        for word in given:
            parameter, equals, value = word.partition("=")
            if not equals or parameter not in allowed.parameters or parameter in values:
                raise self._refusal(f"“{word}” as a parameter of the command “{allowed.name}”")
            rule = allowed.parameters[parameter]
            fits = value in rule if isinstance(rule, list) else re.fullmatch(rule, value) is not None
            # Whatever the rule says: what begins like that would be an option.
            if not fits or value.startswith("-") or "\0" in value:
                raise self._refusal(f"this value of the parameter “{parameter}” of the command “{allowed.name}”")
            values[parameter] = value
        if missing := allowed.parameters.keys() - values.keys():
            raise NotAllowed(f"the command “{allowed.name}” needs a value of {', '.join(sorted(missing))}: give it in the plan")
        return values

    def _refusal(self, what: str) -> NotAllowed:
        return NotAllowed(f"this host does not allow {what}; if it is to be run, add it to {self._place} on the host")


def _is_within(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def allowed_place() -> Path:
    """Return where the file is, or would be."""
    return Path(os.environ.get(ALLOWED_VARIABLE) or ALLOWED_FILE)


def load_allowed() -> Allowed:
    """Return what the host allows; nothing if there is no file. Raises AllowedFileBroken if there is one that does not count."""
    place = allowed_place()
    try:
        content = _read_guarded(place)
    except FileNotFoundError:
        return Allowed(place)
    except OSError as error:
        raise AllowedFileBroken(f"{place} cannot be read: {error.strerror}") from error
    try:
        said = msgspec.toml.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AllowedFileBroken(f"{place} is not as it must be: {error}") from error
    if problem := _problem(said):
        raise AllowedFileBroken(f"{place} is not as it must be: {problem}")
    return Allowed(place, said)


def allowed_names() -> list[str]:
    """Return the names that the server may be told of: those of commands, and of presets with `preset:` before them."""
    try:
        allowed = load_allowed()
    except AllowedFileBroken:
        # The doctor tells of it, and each job that wants a command.
        return []
    return [*allowed.commands, *(f"preset:{name}" for name in allowed.presets)][:NAMES_TOLD]


def _read_guarded(place: Path) -> bytes:
    """Read the file if nobody but root and its owner, who is us, can have written it."""
    # Not blocking, should it be a pipe.
    descriptor = os.open(place, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise AllowedFileBroken(f"{place} does not count: it is no regular file")
        _require_trusted(place, status)
        for directory in place.resolve().parents:
            _require_trusted(directory, directory.stat())
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(place))
    return content


def _require_trusted(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise AllowedFileBroken(f"{allowed_place()} does not count, since {path} belongs to another user: chown root {path}")
    # In a directory like /tmp others may add files, and not replace these.
    is_shared = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_mode & 0o022 and not is_shared:
        raise AllowedFileBroken(f"{allowed_place()} does not count, since others may write to {path}: chmod go-w {path}")


def _problem(said: _File) -> str | None:
    names = [command.name for command in said.command]
    called = [preset.called for preset in said.preset]
    for each in (names, called):
        for name in each:
            if _NAME.fullmatch(name) is None:
                return f"“{name}” is no name: letters, digits, dots and dashes, at most 64"
            if each.count(name) > 1:
                return f"“{name}” stands there twice"
    for command in said.command:
        if problem := _command_problem(command):
            return f"{problem} (command “{command.name}”)"
    for preset in said.preset:
        if problem := preset.problem():
            return f"{problem} (preset “{preset.called}”)"
    for place in said.browse or ():
        if not place.startswith("/") or place.startswith("//") or os.path.normpath(place) != place:
            return f"“browse” names “{place}”, which is no absolute path without dots"
    return None


def _command_problem(command: AllowedCommand) -> str | None:
    if not command.run or not command.run[0] or any("\0" in word for word in command.run):
        return "“run” must be a program and its arguments"
    program = command.run[0]
    if _PLACE.search(program) or ("/" in program and not program.startswith("/")):
        return "the program must be a name or an absolute path, without parameters"
    places = {name for word in command.run for name in _PLACE.findall(word)}
    if places != command.parameters.keys():
        odd = ", ".join(sorted(places ^ command.parameters.keys()))
        return f"“run” and “parameters” must name the same parameters, and do not: {odd}"
    for parameter, rule in command.parameters.items():
        if isinstance(rule, str):
            try:
                re.compile(rule)
            except re.error as error:
                return f"the expression of “{parameter}” cannot be read: {error}"
    return None
