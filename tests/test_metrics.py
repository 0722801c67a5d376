"""What Prometheus is told, and that the dashboard and the alert rules ask for nothing else."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from django.test import Client as Browser
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from backupcenter.metrics.views import _registry
from records.models import DrillRecord, State
from tests.factories import make_client, make_plan, make_record

pytestmark = pytest.mark.django_db
DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
TOKEN = {"Authorization": "Bearer scrape-me"}
LATENCY_SUFFIXES = ("_bucket", "_count", "_sum")


@pytest.fixture(autouse=True)
def _nothing_kept(settings):
    settings.METRICS_TOKEN = "scrape-me"
    _registry.cache_clear()
    yield
    _registry.cache_clear()


def scrape() -> dict[str, list[tuple[dict, float]]]:
    answer = Browser().get("/metrics", headers=TOKEN)
    assert answer.status_code == 200
    found: dict[str, list[tuple[dict, float]]] = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def make_fleet(directory: Path) -> None:
    plan = make_plan(directory, make_client(last_seen=timezone.now()))
    began = timezone.now() - timedelta(hours=2)
    make_record(plan, start_time=began, duration_s=7.5, bytes_read=100, bytes_stored=40, files_total=3)
    make_record(plan, state=State.FAILED)
    make_record(plan, state=State.QUEUED)
    DrillRecord.objects.create(
        plan_uuid=plan.uuid, plan_name="x", state=State.SUCCESS, start_time=began, end_time=began, duration_s=3.0
    )
    type(plan.tenant).objects.update(quota=1000, used=900)


def test_a_scrape_tells_how_old_backups_and_proofs_are_and_what_waits(tmp_path):
    make_fleet(tmp_path)
    make_client()
    found = scrape()
    for name in ("plan_last_success_age_seconds", "plan_proof_age_seconds"):
        ((_labels, age),) = found[f"backupcenter_{name}"]
        assert 7200 <= age < 7300
    assert found["backupcenter_plan_last_success_duration_seconds"][0][1] == 7.5
    assert found["backupcenter_plan_proof_duration_seconds"][0][1] == 3.0
    assert ({"kind": "backup", "state": "queued"}, 1) in found["backupcenter_jobs"]
    assert (found["backupcenter_clients"], found["backupcenter_agents_online"]) == ([({}, 2)], [({}, 1)])
    assert ({"health": "failing"}, 1) in found["backupcenter_plans"]
    assert (found["backupcenter_tenant_used_bytes"][0][1], found["backupcenter_tenant_quota_bytes"][0][1]) == (900, 1000)


def test_a_plan_without_a_backup_has_no_age(tmp_path):
    make_plan(tmp_path)
    assert "backupcenter_plan_last_success_age_seconds" not in scrape()


def test_more_plans_take_no_more_queries_and_a_scrape_soon_after_takes_none(tmp_path, django_assert_num_queries):
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    make_fleet(tmp_path)
    with CaptureQueriesContext(connection) as one:
        scrape()
    _registry.cache_clear()
    for _each in range(5):
        make_fleet(tmp_path)
    with django_assert_num_queries(len(one)):
        scrape()
    with django_assert_num_queries(0):
        scrape()


def test_only_who_has_a_token_may_scrape(api, account):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}, {"Authorization": "Token " + "0" * 64}):
        assert Browser().get("/metrics", headers=headers).status_code == 401
    assert api("viewer").get("/metrics").status_code == 200
    assert Browser().post("/metrics", headers=TOKEN).status_code == 405


def test_without_a_token_in_the_settings_none_opens_it(settings):
    settings.METRICS_TOKEN = ""
    assert Browser().get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401


def test_requests_are_measured_by_route_and_not_by_address(api):
    api("viewer").get("/api/backup/5a5dcd2c-6b12-4b6e-8d3f-0f3d5d9f0001")
    Browser().get("/no/such/page-5a5dcd2c")
    routes = {labels["route"] for labels, _count in scrape()["backupcenter_request_duration_seconds_count"]}
    assert any("uuid" in route for route in routes)
    assert not any("5a5dcd2c" in route for route in routes)


def test_the_dashboard_and_the_alert_rules_ask_for_what_a_scrape_has(tmp_path):
    make_fleet(tmp_path)
    scrape()
    found = set(scrape())
    dashboard = json.loads((DEPLOY / "grafana/backupcenter.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in alerts)
    names = {name for text in [*asked, *(rule["expr"] for rule in alerts)] for name in re.findall(r"\bbackupcenter_\w+", text)}
    assert names
    assert names <= found
