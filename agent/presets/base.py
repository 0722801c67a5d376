"""What presets have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

# How long what prepares and clears up may take, and a dump.
STEP_S = 600.0
STREAM_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """A command before or after the backup. `may_fail`: what it does may be done already."""

    command: tuple[str, ...]
    may_fail: bool = False
    timeout_s: float = STEP_S


@dataclass(frozen=True, slots=True)
class StreamStep:
    """A command whose output becomes the file `path` of the snapshot."""

    path: str
    command: tuple[str, ...]
    timeout_s: float = STREAM_S


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a preset stands for.

    `before` prepares. `after` undoes that, in this order, and is run as soon as the backup has ended, however it did, and also if
    only a part of `before` was run. `paths` are backed up beside those of the plan.
    """

    before: Sequence[Step] = ()
    streams: Sequence[StreamStep] = ()
    paths: Sequence[str] = ()
    after: Sequence[Step] = ()


class BasePreset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """A preset's options. `name`: what plans call it, its kind if empty."""

    name: str = ""
    environment: dict[str, str] = {}

    @property
    def called(self) -> str:
        return self.name or str(self.__struct_config__.tag)

    def expand(self) -> Expansion:
        raise NotImplementedError

    def problem(self) -> str | None:
        """Return what is wrong with the options, None if they make sense."""
        return None


def option_problem(**values: Sequence[str]) -> str | None:
    """Return which of the options has a value that a program would take for something else, if one has."""
    for name, several in values.items():
        for value in several:
            if not value or value.startswith("-") or any(letter in value for letter in "\0\n"):
                return f"“{value}” is no value of “{name}”"
    return None


def path_problem(**values: Sequence[str]) -> str | None:
    """Return which of the options is to be an absolute path and is none."""
    for name, several in values.items():
        for value in several:
            if not value.startswith("/") or "\0" in value or "/../" in f"{value}/":
                return f"“{name}” must be an absolute path, not “{value}”"
    return None
