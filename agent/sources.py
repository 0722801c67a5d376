"""What a backup takes beside files: a plan's words, and what this host allows them to mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.allowed import Allowed, Command, load_allowed


@dataclass(frozen=True, slots=True)
class StreamSource:
    """A command whose output becomes the file `path` of the snapshot."""

    path: str
    command: Command

    def for_child(self) -> dict[str, Any]:
        """Return it as the engine's process takes it."""
        return {
            "path": self.path,
            "label": self.command.label,
            "arguments": self.command.arguments,
            "environment": self.command.environment,
            "timeout_s": self.command.timeout_s,
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """A preset's commands: those before the backup, and those that undo them."""

    before: Sequence[Command]
    after: Sequence[Command]


@dataclass(frozen=True, slots=True)
class Sources:
    """All that a job has run beside the engine. `paths` are backed up beside the plan's own."""

    streams: Sequence[StreamSource] = ()
    paths: Sequence[str] = ()
    presets: Sequence[Prepared] = ()
    before: Sequence[Command] = ()
    on_success: Sequence[Command] = ()
    on_failure: Sequence[Command] = ()
    after: Sequence[Command] = field(default=())
    # They look at what a drill restored.
    checks: Sequence[Command] = ()

    @property
    def has_hooks(self) -> bool:
        return any((self.before, self.on_success, self.on_failure, self.after, *(preset.before for preset in self.presets)))


def allowed_sources(wanted: dict[str, Any]) -> Sources:
    """Return what a backup's or a drill's specification asks to be run.

    Raises NotAllowed, AllowedFileBroken; nothing has been run then.
    """
    streams, presets, hooks = wanted.get("streams", []), wanted.get("presets", []), wanted.get("hooks", {})
    checks = wanted.get("checks", [])
    if not (streams or presets or hooks or checks):
        return Sources()
    allowed = load_allowed()
    found = [StreamSource(each["name"], allowed.command(each["command"], each["timeout_s"])) for each in streams]
    paths: list[str] = []
    prepared = []
    for name in presets:
        expansion = allowed.preset(name)
        for step in expansion.streams:
            found.append(StreamSource(step.path, allowed.of_preset(name, step.command, step.timeout_s)))
        paths += expansion.paths
        before, after = (
            [allowed.of_preset(name, step.command, step.timeout_s, may_fail=step.may_fail) for step in steps]
            for steps in (expansion.before, expansion.after)
        )
        prepared.append(Prepared(before, after))
    stages = {stage: _commands(allowed, hooks.get(stage, [])) for stage in STAGES}
    return Sources(found, paths, prepared, **stages, checks=_commands(allowed, checks))


STAGES = ("before", "on_success", "on_failure", "after")


def _commands(allowed: Allowed, hooks: list[dict[str, Any]]) -> list[Command]:
    return [
        allowed.command(hook["command"], hook["timeout_s"], may_fail=hook.get("on_failure") == "continue") for hook in hooks
    ]
