"""Somebody who operates an installation over its REST API: registers, plans, runs and looks at records."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from backupcenter.quickstart.center import Center
from tests.services.ports import wait_until
from tests.system.processes import Installation

CEPH, DIRECTORY = 0, 2
BUCKET = "bucket"
LOOPBACK_IPV4 = 0x7F000001
SUCCESS, QUEUED, RUNNING, FAILED, CANCELLED, WARNINGS, LOST = range(7)

Record = dict[str, Any]


class Operator:
    """An administrator of `center`, whose web process runs; the store is a directory of the installation, unless it is another."""

    endpoint: Record
    keys: dict[str, str] = {}
    restic_keys: dict[str, str] = {}

    def __init__(self, center: Installation) -> None:
        self.center = center
        token = center.run_python(
            "from accounts.models import User; from knox.models import AuthToken;"
            "user = User.objects.create_superuser('administrator', password='correct horse battery');"
            "print(AuthToken.objects.create(user)[1])"
        ).split()[-1]
        self.api = Center(center.url, token)
        self.token = token
        self.store = center.directory / "store"
        self.endpoint = {"address": str(self.store), "https": False, "type": DIRECTORY, "display_name": "store"}

    def use_ceph(self, address: str, access_key: str, secret_key: str) -> None:
        """Have the store be a Ceph gateway. To be called before `register`."""
        self.endpoint = {"address": address, "https": False, "type": CEPH, "display_name": "ceph"}
        self.keys = {"access_key": access_key, "secret_key": secret_key}
        self.restic_keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret_key}

    def register(self) -> None:
        """Register the store and this host, and let its agent join."""
        self.store.mkdir(exist_ok=True)
        self.api.post("/api/endpoint", self.endpoint)
        self.tenant = self.api.post("/api/tenant", {"endpoint": {"address": self.endpoint["address"]}, **self.keys})
        self.api.post("/api/client", {"ipv4": LOOPBACK_IPV4, "ipv6": None, "hostname": "host"})
        self.center.join(self.api.post(f"/api/client/{LOOPBACK_IPV4}/token")["token"])

    def plan(
        self,
        name: str,
        source: Path,
        cron: str | None = None,
        *,
        in_s: int = 0,
        at: float | None = None,
        bucket: str = BUCKET,
        **fields: str,
    ) -> Record:
        """Make a plan of `source` that begins in so many seconds, or `at` a Unix time; without an expression it fires once, then.

        `fields`: others of the plan's own.
        """
        return dict(
            self.api.post(
                "/api/backup",
                {
                    "backup_name": name,
                    "backup_group": 0,
                    "client": {"ipv4": LOOPBACK_IPV4},
                    "tenant": {"username": self.tenant["username"], "endpoint": {"address": self.endpoint["address"]}},
                    "bucket": bucket,
                    "cron_expression": cron,
                    "start_time": int(time.time() if at is None else at) + in_s,
                    "end_time": None,
                    "hold_type": 0,
                    "hold_time": 0,
                    "backup_data": json.dumps({"include": [str(source)], "exclude": []}),
                    **fields,
                },
            )
        )

    def run(self, plan: Record) -> Record:
        """Start a backup by hand and return its record."""
        return dict(self.api.post(f"/api/backup/{plan['uuid']}/run"))

    def delete(self, record: Record) -> None:
        """Put a backup record into the trash."""
        address = f"{self.center.url}/api/record/backup/{record['id']}"
        requests.delete(address, headers={"Authorization": f"Token {self.token}"}, timeout=60).raise_for_status()

    def record(self, record: Record) -> Record:
        return dict(self.api.get(f"/api/record/backup/{record['id']}"))

    def records(self, plan: Record) -> list[Record]:
        """Return the newest 200 records of a plan, oldest first."""
        return list(reversed(self.api.get("/api/record/backup", backup=plan["uuid"], page_size=200)["Data"]))

    def wait(self, record: Record, question: Callable[[Record], bool], what: str, timeout_s: float = 90) -> Record:
        """Return the record as soon as `question` is true of it. Raises TimeoutError, which shows the record."""
        found: Record = {}

        def answered() -> bool:
            found.update(self.record(record))
            return question(found)

        try:
            wait_until(answered, what, timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {found}") from error
        return found

    def wait_for_end(self, record: Record, timeout_s: float = 90) -> Record:
        """Return the record once it says success."""
        return self.wait(record, lambda now: now["state"] == SUCCESS, f"backup {record['id']} to succeed", timeout_s)

    def events(self) -> list[str]:
        """Return the titles of all events so far."""
        code = "from records.models import Event; print(*Event.objects.order_by('pk').values_list('title', flat=True), sep='\\n')"
        return self.center.run_python(code).splitlines()

    def restic(self, *arguments: str, bucket: str = BUCKET) -> str:
        """Run restic on the one repository in a bucket and return what it prints."""
        row = f"row = Repository.objects.get(bucket='{bucket}')"
        code = f"from storage.models import Repository; {row}; print(row.location, row.password)"
        location, password = self.center.run_python(code).split()[-2:]
        done = subprocess.run(
            ["restic", "--no-cache", "-r", location, *arguments],
            env={**os.environ, "RESTIC_PASSWORD": password, **self.restic_keys},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"restic {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def snapshots(self) -> list[Record]:
        """Return what agents saved; the server keeps snapshots of its own beside."""
        found = json.loads(self.restic("snapshots", "--json"))
        return [each for each in found if not any(tag.startswith("backupcenter-") for tag in each.get("tags", []))]
