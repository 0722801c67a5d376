"""What a restore drill takes: a backup of so many GiB restored from Ceph and compared, whole and as a sample, as a server does it.

    python benchmarks/drill.py [--gib N] [--rounds N] [--directory DIR] [--json FILE]

Beside it stands the restore of the same snapshot by the engine's own command line, with `--verify`, since a drill's figure is to be
that of a recovery. A gateway is started for it; scratch and source lie below `--directory`. Results are also written as JSON under
`benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.generate import total_size, write_large_files, write_small_files  # noqa: E402
from benchmarks.measure import measure  # noqa: E402
from benchmarks.report import write_results  # noqa: E402
from tests.services.ceph import CephGateway, ceph_gateway  # noqa: E402

SMALL_FILES = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--gib", type=float, default=2.0, metavar="N", help="size of the large files (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="drills of each kind (default: 3)")
    parser.add_argument("--directory", type=Path, help="where there is room for three times that (default: the system's)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="drill-", dir=arguments.directory))
    try:
        with ceph_gateway() as gateway:
            run(gateway, home, arguments)
    finally:
        shutil.rmtree(home)


def run(gateway: CephGateway, home: Path, arguments: argparse.Namespace) -> None:
    source = home / "source"
    write_large_files(source / "large", int(arguments.gib * 1024))
    write_small_files(source / "small", SMALL_FILES)
    plan = set_up(gateway, home, source)
    print(f"{total_size(source) / 2**30:.2f} GiB of files on Ceph", file=sys.stderr)
    samples: dict[str, list[dict[str, Any]]] = {"whole": [], "sample": [], "command line": []}
    for _ in range(arguments.rounds):
        for extent in ("whole", "sample"):
            samples[extent].append(drill(plan, extent))
        samples["command line"].append(restore_by_command_line(plan, home))
    print(f"{'':14}{'seconds':>10}{'whole run':>12}{'files':>10}{'MiB':>10}{'MiB/s':>10}")
    for name, of_kind in samples.items():
        seconds = statistics.median(sample["seconds"] for sample in of_kind)
        whole = statistics.median(sample["whole_s"] for sample in of_kind)
        size = statistics.median(sample["bytes"] for sample in of_kind) / 2**20
        files = of_kind[0]["files"]
        print(f"{name:14}{seconds:10.2f}{whole:12.2f}{files:10}{size:10.0f}{size / seconds:10.0f}")
    write_results("drill", arguments.json, gib=arguments.gib, small_files=SMALL_FILES, samples=samples)


def set_up(gateway: CephGateway, home: Path, source: Path) -> Any:
    """Make a server in this process, and a plan with one backup; return the plan."""
    os.environ.update(
        DJANGO_SETTINGS_MODULE="backupcenter.settings",
        BACKUPCENTER_SECRET_KEY="benchmark",
        BACKUPCENTER_DATABASE_URL=f"sqlite://{home}/server.sqlite3",
        BACKUPCENTER_REDIS_URL="redis://127.0.0.1:1/0",
        BACKUPCENTER_DRILL_DIRECTORY=str(home / "scratch"),
        BACKUPCENTER_LOG_LEVEL="ERROR",
    )
    import django

    django.setup()
    from django.core.management import call_command
    from django.utils import timezone

    from clients.models import Client
    from engine.commands.backup import backup
    from jobs.planning import create_plan
    from jobs.serializers import plan_detail
    from records.models import BackupRecord, State
    from storage.models import Endpoint, Tenant
    from storage.repositories import open_repository

    call_command("migrate", verbosity=0)
    access_key, secret_key = gateway.make_user("drill")
    endpoint = Endpoint.objects.create(address=gateway.address, https=False)
    tenant = Tenant.objects.create(endpoint=endpoint, username="drill", access_key=access_key, secret_key=secret_key)
    plan = create_plan(
        client=Client.objects.create(hostname="here", ipv4=1),
        tenant=tenant,
        bucket="drill",
        backup_name="drill",
        start_time=timezone.now(),
        backup_data=json.dumps({"include": [str(source)]}),
    )
    began = timezone.now()
    repository = open_repository(plan.repository)
    summary = backup(repository, [source], host="here")
    repository.close()
    BackupRecord.objects.create(
        client=plan.client,
        plan_uuid=plan.uuid,
        plan_name=plan.backup_name,
        backup_detail=plan_detail(plan),
        repository=plan.repository,
        state=State.SUCCESS,
        snapshot=summary.snapshot_id,
        start_time=began,
        end_time=timezone.now(),
    )
    return plan


def drill(plan: Any, extent: str) -> dict[str, Any]:
    """Do a drill; `seconds` is the recovery time that it notes, `whole_s` all of it: choosing, restoring, removing."""
    from records.drills.drilling import request_drill
    from records.maintenance import run_maintenance
    from records.models import State

    record = request_drill(plan.uuid, plan.backup_name, extent)
    assert record.run is not None
    began = time.perf_counter()
    run_maintenance(record.run.pk, 1)
    whole_s = time.perf_counter() - began
    record.refresh_from_db()
    if record.state != State.SUCCESS:
        raise RuntimeError(f"the drill failed: {record.error}")
    return {"seconds": record.duration_s, "whole_s": whole_s, "files": record.compared, "bytes": record.bytes_restored}


def restore_by_command_line(plan: Any, home: Path) -> dict[str, Any]:
    """Restore and verify by the engine's command line."""
    repository, tenant = plan.repository, plan.tenant
    keys = {"AWS_ACCESS_KEY_ID": tenant.access_key, "AWS_SECRET_ACCESS_KEY": tenant.secret_key}
    target = home / "restored"
    command = [sys.executable, "-m", "engine", "-r", repository.location, "restore", "latest", "--target", str(target), "--verify"]
    environment = os.environ | keys | {"RESTIC_PASSWORD": repository.password}
    found = measure(command, env=environment, cwd=ROOT, log=home / "restore.log")
    size, files = total_size(target), sum(path.is_file() for path in target.rglob("*"))
    began = time.perf_counter()
    shutil.rmtree(target)
    return {"seconds": found.wall_s, "whole_s": found.wall_s + time.perf_counter() - began, "files": files, "bytes": size}


if __name__ == "__main__":
    main()
