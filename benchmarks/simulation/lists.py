"""How long the lists and the console's other pages take, with filters, searches and far pages, asked one after another."""

from __future__ import annotations

import time
from typing import Any

import requests

from benchmarks.simulation.center import Center
from benchmarks.simulation.figures import quantiles

SECRETS = """
from datetime import timedelta
from django.contrib.admin import site
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken
from accounts.models import User
from clients.models import Client
from jobs.models import BackupPlan
from records.models import BackupRecord, Event
import json
user = User.objects.filter(is_superuser=True).first()
browser = Browser()
browser.force_login(user)
newest = BackupRecord.objects.latest("pk")
print(json.dumps({
    "token": AuthToken.objects.create(user)[1],
    "session": browser.cookies["sessionid"].value,
    "plan": str(newest.plan_uuid),
    "client": Client.objects.get(pk=newest.client_id).ipv4,
    "client_id": newest.client_id,
    "day": int(newest.queued_at.timestamp()) - 86400,
    "month": int(newest.queued_at.timestamp()) - 30 * 86400,
    "records": BackupRecord.objects.count(),
    "plans": BackupPlan.objects.count(),
    "newest": newest.pk,
    "oldest_event": Event.objects.earliest("pk").job,
    "changelists": [reverse(f"admin:{m._meta.app_label}_{m._meta.model_name}_changelist") for m in site._registry],
}))
"""


def addresses(known: dict[str, Any]) -> list[str]:
    """Return the lists' addresses; `known`: what SECRETS prints."""
    last, last_plan = known["records"] // 20, known["plans"] // 20
    records = "/api/record/backup"
    return [
        *(f"/api/{name}" for name in ("account", "endpoint", "tenant", "client", "client?page_size=20")),
        *(f"/api/backup{query}" for query in ("", "?page_size=200", f"?page={last_plan // 2}", f"?page={last_plan}")),
        *(f"{records}{query}" for query in ("", "?page=2", "?page=100", f"?page={last // 2}", f"?page={last}", "?page_size=200")),
        *(f"{records}?backup={known['plan']}{more}" for more in ("", "&state=0", "&page=2")),
        *(f"{records}?client={known['client']}{more}" for more in ("", "&state=3", "&page=2")),
        *(f"{records}?state={state}" for state in (0, 1, 2, 3, 6)),
        *(f"{records}?{query}" for query in (f"since={known['day']}", f"since={known['month']}", f"until={known['month']}")),
        *(f"/api/record/recovery{query}" for query in ("", "?page=100", f"?client={known['client']}", f"?backup={known['plan']}")),
        *known["changelists"],
        "/admin/records/backuprecord/?p=100",
        "/admin/records/backuprecord/?state__exact=3",
        f"/admin/records/backuprecord/?client__id__exact={known['client_id']}",
        "/admin/records/backuprecord/?q=web-00007",
        "/admin/records/event/?level__exact=80",
        f"/admin/records/event/?q={known['oldest_event']}",
        "/admin/records/event/?q=backup-9",
        "/admin/records/event/?q=home",
        "/admin/jobs/backupplan/?state=2",
        f"/admin/records/backuprecord/{known['newest']}/change/",
        f"/admin/clients/client/{known['client_id']}/change/",
        f"/admin/jobs/backupplan/{known['plans']}/change/",
        f"/admin/jobs/backupplan/{known['plans']}/retention/?keep=daily+7",
        "/admin/",
    ]


def measure_lists(center: Center, known: dict[str, Any], times: int) -> list[dict[str, Any]]:
    """Return a row for each list: its address, milliseconds by quantile, bytes of the answer."""
    rows = []
    for address in addresses(known):
        with requests.Session() as session:
            if address.startswith("/admin"):
                session.cookies["sessionid"] = known["session"]
            else:
                session.headers["Authorization"] = f"Token {known['token']}"
            seconds, answer = [], None
            for _ in range(times + 1):
                began = time.perf_counter()
                answer = session.get(center.url + address, timeout=120, allow_redirects=False)
                seconds.append(time.perf_counter() - began)
            assert answer is not None
            # The first has the web process read what it reads once.
            shown = address.replace(known["plan"], "…")
            rows.append({"list": shown, "status": answer.status_code, **quantiles(seconds[1:]), "bytes": len(answer.content)})
            print(rows[-1], flush=True)
    return rows
