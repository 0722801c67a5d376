"""What a plan has its client run: streams, presets, and commands before and after. Pure rules about the plan's data.

    "streams":  [{"name": "/dumps/shop.dump", "command": ["dump-shop"], "timeout_s": 3600}]
    "presets":  ["postgresql"]
    "hooks":    {"before": [{"command": ["flush", "level=full"], "timeout_s": 60, "on_failure": "continue"}],
                 "after": [], "on_success": [], "on_failure": []}

A command is the name of one that the client's own file allows, and values of its parameters. No text here is read by a shell.
"""

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from backupcenter.api.text import storable
from clients.compatibility import COMMANDS_PROTOCOL, OLDEST_PROTOCOL

STAGES = ("before", "after", "on_success", "on_failure")
KEYS = ("include", "exclude", "streams", "presets", "hooks")
# How many of each a plan may have, and how long one may take; what it takes unless the plan says.
MOST = 20
LONGEST_S = 7 * 24 * 3600
STREAM_S = 24 * 3600
HOOK_S = 600
WORDS = 50
WORD_LENGTH = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def has_commands(data: dict[str, Any]) -> bool:
    """Whether there is anything to be run beside the engine."""
    return bool(data.get("streams") or data.get("presets") or any((data.get("hooks") or {}).values()))


def needed_protocol(data: dict[str, Any]) -> int:
    """Return the oldest protocol of agents that do all of it, instead of leaving out what they do not know."""
    return COMMANDS_PROTOCOL if has_commands(data) else OLDEST_PROTOCOL


def brings_files(data: dict[str, Any]) -> bool:
    """Whether there may be something to back up without any path."""
    return bool(data.get("streams") or data.get("presets"))


def commands_problem(data: dict[str, Any]) -> str | None:
    """Return what is wrong with the commands of a plan's data, None if nothing is."""
    if unknown := sorted(data.keys() - set(KEYS)):
        return _("There is no “%(key)s”; what there is: %(keys)s.") % {"key": unknown[0], "keys": ", ".join(KEYS)}
    streams, presets, hooks = data.get("streams", []), data.get("presets", []), data.get("hooks", {})
    if not _is_list(streams, dict) or not _is_list(presets, str):
        return _("“streams” must be a list of objects and “presets” a list of names, at most %(most)d each.") % {"most": MOST}
    if not isinstance(hooks, dict) or not hooks.keys() <= set(STAGES) or not all(_is_list(each, dict) for each in hooks.values()):
        return _("“hooks” must be an object of lists, at most %(most)d commands each: %(stages)s.") % {
            "most": MOST,
            "stages": ", ".join(STAGES),
        }
    for name in presets:
        if _NAME.fullmatch(name) is None:
            return _("“%(name)s” is no name of a preset.") % {"name": name}
    for stream in streams:
        if problem := _stream_problem(stream):
            return problem
    names = [stream["name"] for stream in streams]
    if len(set(names)) < len(names) or len(set(presets)) < len(presets):
        return _("Each stream has a “name” of its own, and each preset is named once.")
    for stage, commands in hooks.items():
        for command in commands:
            if problem := _command_problem(command, {"on_failure"} if stage == "before" else set()):
                return problem
            if command.get("on_failure", "abort") not in ("abort", "continue"):
                return _("“on_failure” of a command before the backup must be “abort” or “continue”.")
    return None


def commands_for_agent(data: dict[str, Any]) -> dict[str, Any]:
    """Return streams, presets and hooks as an agent takes them, nothing if there are none: older ones need not know of them."""
    if not has_commands(data):
        return {}
    return {
        "streams": [{"timeout_s": STREAM_S, **stream} for stream in data.get("streams", [])],
        "presets": data.get("presets", []),
        "hooks": {
            stage: [{"timeout_s": HOOK_S, **command} for command in commands] for stage, commands in data.get("hooks", {}).items()
        },
    }


def names_of(data: dict[str, Any]) -> list[str]:
    """Return what a client must allow, each once, as agents name it: commands, and presets with `preset:` before them."""
    return list(dict.fromkeys(_names(data)))


def _names(data: dict[str, Any]) -> Iterator[str]:
    for stream in data.get("streams", []):
        yield stream["command"][0]
    for commands in data.get("hooks", {}).values():
        for command in commands:
            yield command["command"][0]
    for name in data.get("presets", []):
        yield f"preset:{name}"


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and len(value) <= MOST and all(isinstance(item, kind) for item in value)


def _stream_problem(stream: dict[str, Any]) -> str | None:
    name = stream.get("name")
    if not isinstance(name, str) or not _is_stream_path(name):
        return _("“name” of a stream must be an absolute path without dots, as the backup is to have it: /dumps/shop.sql.")
    return _command_problem(stream, {"name"})


def _is_stream_path(name: str) -> bool:
    is_text = "\0" not in name and storable(name) == name and len(name) <= WORD_LENGTH
    return is_text and name.startswith("/") and not name.startswith("//") and name != "/" and posixpath.normpath(name) == name


def _command_problem(command: dict[str, Any], others: set[str]) -> str | None:
    if unknown := sorted(command.keys() - {"command", "timeout_s"} - others):
        return _("A command has no “%(key)s” here.") % {"key": unknown[0]}
    words = command.get("command")
    if not isinstance(words, list) or not 1 <= len(words) <= WORDS or not all(map(_is_word, words)):
        return _("“command” must be a list of texts: the name of a command that the client allows, then “parameter=value”.")
    if _NAME.fullmatch(words[0]) is None:
        return _("“%(name)s” is no name of a command: what it runs stands in the client's own file.") % {"name": words[0]}
    if not all("=" in word for word in words[1:]):
        return _("What follows the name “%(name)s” must be “parameter=value”.") % {"name": words[0]}
    limit_s = command.get("timeout_s", 1)
    if type(limit_s) is not int or not 1 <= limit_s <= LONGEST_S:
        return _("“timeout_s” must be a whole number of seconds from 1 to %(longest)d.") % {"longest": LONGEST_S}
    return None


def _is_word(word: Any) -> bool:
    return isinstance(word, str) and 0 < len(word) <= WORD_LENGTH and "\0" not in word and storable(word) == word
