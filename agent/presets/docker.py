"""Volumes of Docker: read where they lie, while the containers that write to them are held."""

from agent.presets.base import BasePreset, Expansion, Step, option_problem, path_problem


class Docker(BasePreset, frozen=True, kw_only=True, tag="docker"):
    """Docker: the files of `volumes`, while `containers` are paused. `root`: Docker's data directory."""

    volumes: list[str]
    containers: list[str] = []
    root: str = "/var/lib/docker"

    def expand(self) -> Expansion:
        return Expansion(
            before=[Step(("docker", "pause", name)) for name in self.containers],
            paths=[f"{self.root}/volumes/{name}/_data" for name in self.volumes],
            after=[Step(("docker", "unpause", name)) for name in reversed(self.containers)],
        )

    def problem(self) -> str | None:
        if not self.volumes or any("/" in name or name in (".", "..") for name in self.volumes):
            return "“volumes” must be names of volumes, at least one"
        return option_problem(volumes=self.volumes, containers=self.containers) or path_problem(root=[self.root])
