"""What it takes to keep plans' definitions in their repositories, and to rebuild from them after a total loss, on PostgreSQL.

    python benchmarks/definitions.py [--plans N] [--repositories N] [--json FILE]

Plans are spread evenly over repositories in directories, a client for each ten. It tells what a look for changes takes, what
writing takes by repository, and what `rebuild` takes with a kit from before the plans, by its parts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.report import write_results  # noqa: E402
from tests.services.postgres import postgres_server  # noqa: E402

PLANS_OF_A_CLIENT = 10
PASSPHRASE = "twelve letters and more"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=10_000)
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, postgres_server() as url:
        _configure(url)
        try:
            figures = _measure(Path(directory), options.plans, options.repositories)
        finally:
            _hang_up()
    for name, figure in figures.items():
        print(f"{name:36} {figure:12,.3f}" if isinstance(figure, float) else f"{name:36} {figure:12,}")
    write_results("definitions", options.json, plans=options.plans, repositories=options.repositories, figures=figures)
    return 0


def _configure(url: str) -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="backupcenter.settings",
        BACKUPCENTER_SECRET_KEY="of-a-benchmark-" * 4,
        BACKUPCENTER_DATABASE_URL=url,
        # Nobody listens there: what is queued is done here.
        BACKUPCENTER_REDIS_URL="redis://127.0.0.1:1/0",
    )
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def _hang_up() -> None:
    """Close what PostgreSQL would wait for before it ends."""
    from django.db import connection

    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]


def _measure(directory: Path, plans: int, repositories: int) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from clients.models import Client
    from jobs import rebuilding
    from jobs.definitions.keeping import changed_repositories, request_writing
    from jobs.models import BackupPlan, SigningKey
    from jobs.recoverykit import make_kit, open_kit
    from records.maintenance import run_maintenance
    from storage.models import Endpoint, Repository, Tenant

    figures: dict[str, Any] = {}
    _populate(directory, 0, repositories)
    kit = open_kit(make_kit(PASSPHRASE), PASSPHRASE)
    _populate(directory, plans, repositories)
    with CaptureQueriesContext(connection) as captured, _timed(figures, "first look (s)"):
        changed = changed_repositories()
    assert len(changed) == repositories
    figures["queries of a look"] = len(captured)
    sizes, stored, took = [], [], []
    for repository in Repository.objects.filter(pk__in=changed):
        run = request_writing(repository)
        begun = time.perf_counter()
        run_maintenance(run.pk, run.attempt)
        took.append(time.perf_counter() - begun)
        run.refresh_from_db()
        assert run.state == 0, run.error
        sizes.append(run.result["bytes"])
        stored.append(run.result["bytes_stored"])
    figures |= {"a write (s)": sum(took) / len(took), "longest write (s)": max(took)}
    figures |= {"text of a repository (bytes)": sum(sizes) // len(sizes), "stored of it (bytes)": sum(stored) // len(stored)}
    with _timed(figures, "look without a change (s)"):
        assert changed_repositories() == []
    for model in (BackupPlan, Repository, Tenant, Endpoint, Client, SigningKey):
        model.objects.all().delete()
    parts = {"_find": "reading all repositories (s)", "_plans": "making clients and plans (s)", "sync_records": "comparing (s)"}
    for function, name in parts.items():
        setattr(rebuilding, function, _adding(getattr(rebuilding, function), figures, name))
    with _timed(figures, "rebuild (s)"):
        made = rebuilding.rebuild(kit)
    assert sum(len(each) for each in made.plans.values()) == BackupPlan.objects.count() == plans
    return figures


def _populate(directory: Path, plans: int, repositories: int) -> None:
    from clients.models import Client
    from jobs.models import BackupPlan
    from storage.models import Endpoint, Tenant
    from storage.repositories import ensure_repository

    endpoint = Endpoint.objects.get_or_create(address=str(directory), defaults={"https": False, "type": Endpoint.Type.DIRECTORY})[0]
    tenant = Tenant.objects.get_or_create(endpoint=endpoint, username="backup")[0]
    rows = [ensure_repository(tenant, f"bucket-{number}") for number in range(repositories)]
    clients = Client.objects.bulk_create(
        Client(ipv4=0x0A000000 + number, hostname=f"host-{number}.example.com") for number in range(-(-plans // PLANS_OF_A_CLIENT))
    )
    each = -(-plans // repositories)
    BackupPlan.objects.bulk_create(
        BackupPlan(
            uuid=uuid.uuid4(),
            backup_name=f"nightly of part {number}",
            client=clients[number // PLANS_OF_A_CLIENT],
            tenant=tenant,
            repository=rows[number // each],
            bucket=rows[number // each].bucket,
            cron_expression=f"{number % 60} {number // 60 % 60} 3 * * ?",
            start_time=datetime(2026, 1, 1, tzinfo=UTC),
            keep={"daily": 7, "weekly": 4, "monthly": 12},
            backup_data=json.dumps({"include": [f"srv/part-{number}", "etc"], "exclude": ["*.tmp", "srv/cache"]}),
        )
        for number in range(plans)
    )


@contextlib.contextmanager
def _timed(figures: dict[str, Any], name: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    figures[name] = figures.get(name, 0.0) + time.perf_counter() - begun


def _adding(function: Any, figures: dict[str, Any], name: str) -> Any:
    def timed(*arguments: Any, **options: Any) -> Any:
        with _timed(figures, name):
            return function(*arguments, **options)

    return timed


if __name__ == "__main__":
    sys.exit(main())
