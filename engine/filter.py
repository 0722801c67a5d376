"""restic's pattern rules for excluding and including paths, compiled into regular expressions.

A pattern is matched component by component: ``*``, ``?`` and ``[a-z]`` stay within a component, ``**`` stands for any
number of components. A pattern that begins with ``/`` is matched from the root, any other at any depth; what matches takes
all below it along.
``!pattern`` takes back what an earlier pattern matched. Specified in restic's manual under "Excluding Files".
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import EngineError


class InvalidPattern(EngineError):
    """A pattern that cannot be understood."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    is_negated: bool
    match: str
    prefix: str | None  # of paths below which something may match; None: any path


class PathFilter:
    """A list of patterns, ready to be asked about many paths."""

    def __init__(self, patterns: Iterable[str | bytes]) -> None:
        compiled = [_compile(text) for text in map(_as_text, patterns) if text]
        self._is_empty = not compiled
        self._steps: list[tuple[bool, re.Pattern[str], re.Pattern[str] | None]] = []
        if any(pattern.is_negated for pattern in compiled):
            self._steps = [
                (pattern.is_negated, _regex([pattern.match]), _regex([pattern.prefix]) if pattern.prefix else None)
                for pattern in compiled
            ]
        self._any = _regex([pattern.match for pattern in compiled])
        prefixes = [pattern.prefix for pattern in compiled if pattern.prefix is not None]
        self._any_prefix = _regex(prefixes) if len(prefixes) == len(compiled) else None

    def __bool__(self) -> bool:
        return not self._is_empty

    def matches(self, path: bytes) -> bool:
        """Whether the path, or a directory above it, is matched."""
        if self._is_empty:
            return False
        text = _path_text(path)
        if not self._steps:
            return self._any.search(text) is not None
        matched = False
        for is_negated, regex, _ in self._steps:
            # Only the last pattern that speaks about the path counts.
            if is_negated == matched and regex.search(text) is not None:
                matched = not is_negated
        return matched

    def may_match_below(self, path: bytes) -> bool:
        """Whether something at or below the path may be matched; False means the directory need not be looked into."""
        if self._is_empty:
            return False
        text = _path_text(path)
        if not self._steps:
            return self._any_prefix is None or self._any_prefix.search(text) is not None
        may_match = False
        for is_negated, regex, prefix in self._steps:
            if is_negated:
                may_match = may_match and regex.search(text) is None
            else:
                may_match = may_match or prefix is None or prefix.search(text) is not None
        return may_match


def compile_patterns(patterns: Iterable[str | bytes]) -> PathFilter:
    """A filter from restic's patterns; empty ones are skipped. Raises InvalidPattern, naming the pattern."""
    return PathFilter(patterns)


def _as_text(pattern: str | bytes) -> str:
    return os.fsdecode(pattern)


def _path_text(path: bytes) -> str:
    if not path:
        raise ValueError("an empty path has nothing to match")
    return os.fsdecode(path)


def _regex(alternatives: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.DOTALL)


def _compile(text: str) -> _Pattern:
    is_negated = text.startswith("!")
    body = posixpath.normpath(text[1:] if is_negated else text)
    is_absolute = body.startswith("/")
    parts = [part for part in body.split("/") if part]
    translated = [None if part == "**" else _translate(part, text) for part in parts]
    prefix = _prefix_regex(translated) if is_absolute else None
    return _Pattern(is_negated, _match_regex(translated, is_absolute), prefix)


def _match_regex(parts: list[str | None], is_absolute: bool) -> str:
    """The components one after another, and anything below the last."""
    regex = "^/" if is_absolute else "(?:^|/)"
    is_first = True
    for part in parts:
        if part is None:
            regex += "(?:[^/]+/)*" if is_first else "(?:/[^/]+)*"
            continue
        regex += part if is_first else "/" + part
        is_first = False
    if is_first:  # only wildcards for any number of components, or the root itself
        return regex
    return regex + r"(?:/|\Z)"


def _prefix_regex(parts: list[str | None]) -> str:
    """Every directory on the way to a match: up to the first ``**``, below which anything may match."""
    regex = ""
    known = parts[: parts.index(None)] if None in parts else parts
    for part in reversed(known):
        regex = rf"{part}(?:\Z|/{regex})" if regex else rf"{part}(?:\Z|/)"
    return rf"^/(?:\Z|{regex})" if regex else "^/"


_MEMBER = r"(?:\\.|[^\\\]\-])"
_CLASS = re.compile(rf"\[(\^?)((?:{_MEMBER}(?:-{_MEMBER})?)+)\]", re.DOTALL)
_RANGE = re.compile(rf"({_MEMBER})(?:-({_MEMBER}))?", re.DOTALL)


def _translate(part: str, pattern: str) -> str:
    """One component of a pattern, in the syntax of Go's ``path.Match``, as a regular expression."""
    regex, position = "", 0
    while position < len(part):
        character = part[position]
        position += 1
        if character == "*":
            regex += "[^/]*" if not regex.endswith("[^/]*") else ""
        elif character == "?":
            regex += "[^/]"
        elif character == "[":
            found = _CLASS.match(part, position - 1)
            if found is None:
                raise InvalidPattern(f"The pattern {pattern!r} has an unfinished or malformed [character class].")
            regex += _class(found[2], is_negated=bool(found[1]))
            position = found.end()
        elif character == "\\":
            if position == len(part):
                raise InvalidPattern(f"The pattern {pattern!r} ends in a backslash that escapes nothing.")
            regex += re.escape(part[position])
            position += 1
        else:
            regex += re.escape(character)
    return regex


def _class(members: str, *, is_negated: bool) -> str:
    """A character class, which never matches what parts components; a range that runs backwards holds nothing."""
    regex, spans_separator = "", False
    for found in _RANGE.finditer(members):
        low, high = found[1][-1], (found[2] or found[1])[-1]
        if low <= high:
            regex += f"{re.escape(low)}-{re.escape(high)}"
            spans_separator |= low <= "/" <= high
    if is_negated:
        return f"[^/{regex}]"
    if not regex:
        return "(?!)"
    return f"(?!/)[{regex}]" if spans_separator else f"[{regex}]"
