"""The main job, walked through over the REST API as a user would: register, plan, fire, restore, compare."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupcenter.quickstart.center import Center
from backupcenter.quickstart.installation import Installation, QuickstartError
from backupcenter.quickstart.processes import TOP
from engine.compare import compare_trees
from engine.terminal import size_text

LOOPBACK_IPV4 = 0x7F000001
FIRST_FIRE_S = 5
POLL_S = 0.5
NAME_LENGTH = 255
SPECIAL_IN_PATTERNS = re.compile(r"[\\*?\[]")
SUCCESS, QUEUED, RUNNING, WARNINGS = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """Where the quick start keeps its backups. `url`: of an S3 store; None: a directory below the state directory."""

    url: str | None = None
    access_key: str = ""
    secret_key: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a finished story proved. Sizes in bytes, times in seconds."""

    source: Path
    restored: Path
    snapshot: str
    repository: str
    files: int
    bytes_read: int
    bytes_stored: int
    backup_s: float
    restore_s: float
    differences: list[str]
    unreadable: list[dict[str, str]]

    @property
    def is_identical(self) -> bool:
        return not self.differences and not self.unreadable


class Story:
    """One walk. `show` tells the progress of the current step, `require_running` raises if a program of ours has ended."""

    def __init__(
        self, installation: Installation, center: Center, show: Callable[[str], None], require_running: Callable[[], None]
    ) -> None:
        self.installation = installation
        self.center = center
        self.show = show
        self.require_running = require_running

    def register_store(self, choice: StoreChoice) -> dict[str, Any]:
        """Register the endpoint and its tenant, unless they are there; return the tenant."""
        if choice.url is None:
            address, https, kind = str(self.installation.state / "store"), False, 2
        else:
            scheme, _, address = choice.url.partition("://")
            https, kind, address = scheme == "https", 0, address.rstrip("/")
        endpoints = self.center.get("/api/endpoint")
        if not any(endpoint["address"] == address for endpoint in endpoints):
            body = {"address": address, "https": https, "type": kind, "display_name": "quickstart"}
            self.center.post("/api/endpoint", body)
        tenants = [tenant for tenant in self.center.get("/api/tenant") if tenant["endpoint"]["address"] == address]
        for tenant in tenants:
            if choice.url is None:
                return dict(tenant)
            if tenant["access_key"] == choice.access_key:
                # The secret may be another by now; the server asks the store whether it is right.
                keys = {"access_key": choice.access_key, "secret_key": choice.secret_key}
                return dict(self.center.put(f"/api/tenant/{tenant['username']}", keys, endpoint=address))
        body = {"endpoint": {"address": address}}
        if choice.url is not None:
            body |= {"access_key": choice.access_key, "secret_key": choice.secret_key}
        return dict(self.center.post("/api/tenant", body))

    def join_agent(self) -> dict[str, Any]:
        """Let this host's agent join, unless it has; return the client."""
        clients = self.center.get("/api/client")
        known = next((client for client in clients if client["ipv4"] == LOOPBACK_IPV4), None)
        if known is None:
            body = {"ipv4": LOOPBACK_IPV4, "ipv6": None, "hostname": platform.node() or "localhost"}
            known = self.center.post("/api/client", body)
        token = self.center.post(f"/api/client/{LOOPBACK_IPV4}/token")["token"]
        # On standard input, since arguments show in process lists.
        joining = subprocess.run(
            [
                sys.executable,
                "-m",
                "agent",
                "join",
                "--center",
                self.center.url,
                "--token",
                "-",
                "--state",
                str(self.installation.state / "agent"),
            ],
            input=token,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=TOP,
            env=self.installation.agent_environment(),
        )
        if joining.returncode:
            raise QuickstartError(f"the agent could not join: {joining.stdout.strip()}")
        return dict(known)

    def wait_for_agent(self) -> None:
        """Return once the server has heard of the agent."""
        self._wait(
            lambda: next(
                (client for client in self.center.get("/api/client") if client["ipv4"] == LOOPBACK_IPV4 and client["online"]),
                None,
            ),
            "the agent to answer",
            limit_s=60,
        )

    def plan_backup(self, tenant: dict[str, Any], source: Path, exclude: list[Path]) -> dict[str, Any]:
        """Make (or set anew) the plan of `source`, to fire in a few seconds and then daily; return the plan."""
        fire = datetime.now(UTC) + timedelta(seconds=FIRST_FIRE_S)
        name = f"quickstart {source}"
        if len(name) > NAME_LENGTH:
            name = f"quickstart …{str(source)[-NAME_LENGTH + 12 :]}"
        patterns = [SPECIAL_IN_PATTERNS.sub(r"\\\g<0>", str(path)) for path in exclude]
        data = json.dumps({"include": [str(source)], "exclude": patterns}, ensure_ascii=False)
        cron = f"{fire.second} {fire.minute} {fire.hour} * * ?"
        endpoint = tenant["endpoint"]["address"]
        known = self._plan_named(name, tenant["username"], endpoint)
        if known is not None:
            body = {"cron_expression": cron, "timezone": "UTC", "backup_data": data}
            return dict(self.center.put(f"/api/backup/{known['uuid']}", body))
        return dict(
            self.center.post(
                "/api/backup",
                {
                    "backup_name": name,
                    "backup_group": 0,
                    "client": {"ipv4": LOOPBACK_IPV4},
                    "tenant": {"username": tenant["username"], "endpoint": {"address": endpoint}},
                    "bucket": self.installation.secrets.bucket,
                    "cron_expression": cron,
                    "timezone": "UTC",
                    "start_time": int(time.time()) - 1,
                    "end_time": None,
                    "hold_type": 0,
                    "hold_time": 0,
                    "backup_data": data,
                },
            )
        )

    def wait_for_backup(self, plan: dict[str, Any], after_record: int) -> dict[str, Any]:
        """Return the record of the plan's scheduled run once it has ended well."""

        def newest() -> dict[str, Any] | None:
            records = self.center.get("/api/record/backup", backup=plan["uuid"], page_size=1)["Data"]
            return records[0] if records and records[0]["id"] > after_record else None

        record = self._wait(newest, "the schedule to fire", limit_s=60)
        return self._wait_for_end(f"/api/record/backup/{record['id']}", "backing up")

    def newest_record(self) -> int:
        records = self.center.get("/api/record/backup", page_size=1)["Data"]
        return int(records[0]["id"]) if records else 0

    def restore(self, record: dict[str, Any]) -> tuple[dict[str, Any], Path]:
        """Restore the record below the state directory; return the recovery record and the directory."""
        restored = self.installation.state / "restored"
        for earlier in restored.iterdir():
            shutil.rmtree(earlier, ignore_errors=True)
        target = restored / str(record["id"])
        recovery = self.center.post(
            "/api/recovery",
            {
                "client": {"ipv4": LOOPBACK_IPV4},
                "backup_record": {"id": record["id"]},
                "recovery_data": json.dumps({"destination": str(target)}, ensure_ascii=False),
            },
        )
        return self._wait_for_end(f"/api/record/recovery/{recovery['id']}", "restoring"), target

    def compare(
        self, source: Path, target: Path, exclude: list[Path], record: dict[str, Any], recovery: dict[str, Any]
    ) -> Evidence:
        """Compare the source with what came back, entry by entry and byte by byte."""
        restored = target / source.relative_to("/")
        differences = compare_trees(os.fsencode(source), os.fsencode(restored), exclude=[os.fsencode(path) for path in exclude])
        return Evidence(
            source=source,
            restored=restored,
            snapshot=record["snapshot"],
            repository=record["repository"],
            files=record["files_total"],
            bytes_read=record["bytes_read"],
            bytes_stored=record["bytes_stored"],
            backup_s=record["duration_s"],
            restore_s=recovery["duration_s"],
            differences=differences,
            unreadable=record["unreadable"],
        )

    def _plan_named(self, name: str, username: str, endpoint: str) -> dict[str, Any] | None:
        page = total = 1
        while page <= total:
            answer = self.center.get("/api/backup", page=page, page_size=200)
            total = answer["total_page"]
            for plan in answer["Data"]:
                tenant = plan["tenant"]
                where = (tenant["username"], tenant["endpoint"]["address"])
                if plan["backup_name"] == name and where == (username, endpoint):
                    return dict(plan)
            page += 1
        return None

    def _wait_for_end(self, path: str, doing: str) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            record = self.center.get(path)
            if record["state"] in (QUEUED, RUNNING):
                self.show(_progress_line(doing, record.get("progress") or {}))
                return None
            return dict(record)

        record = self._wait(ended, f"{doing} to end", limit_s=None)
        if record["state"] not in (SUCCESS, WARNINGS):
            raise QuickstartError(f"{doing} failed: {record['error']}")
        return record

    def _wait(self, question: Callable[[], dict[str, Any] | None], what: str, limit_s: float | None) -> dict[str, Any]:
        end = None if limit_s is None else time.monotonic() + limit_s
        while (answer := question()) is None:
            if end is not None and time.monotonic() > end:
                raise QuickstartError(f"waited {limit_s:g} s in vain for {what}; the logs below the state directory say more")
            self.require_running()
            time.sleep(POLL_S)
        return answer


def _progress_line(doing: str, progress: dict[str, Any]) -> str:
    done, total = progress.get("bytes_done") or 0, progress.get("bytes_total") or 0
    files = progress.get("files_done") or 0
    share = f" {min(100, 100 * done // total)} %" if total else ""
    return f"{doing} …{share} {files} files, {size_text(done)}"
