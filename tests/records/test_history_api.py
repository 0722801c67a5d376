"""`/api/record/…`: lists, filters, cancelling and deleting."""

import base64
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.claiming import hand_over
from jobs.models import BackupPlan
from jobs.recovery import request_recovery
from records.lifecycle import hold_until
from records.models import BackupRecord, MaintenanceRun, RecoveryRecord, State
from storage.models import Tenant
from tests.factories import make_client, make_plan, make_record


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def ids(answer) -> list[int]:
    assert answer.status_code == 200, answer.json()
    return [record["id"] for record in answer.json()["Data"]]


def test_an_empty_list_is_page_one_of_one(api, db) -> None:
    for kind in ("backup", "recovery"):
        answer = api("viewer").get(f"/api/record/{kind}/").json()
        assert answer == {"page": 1, "total_page": 1, "total": 0, "Data": []}


def test_a_record_shows_the_plan_as_it_was(api, plan) -> None:
    record = make_record(plan)
    api("operator").put(f"/api/backup/{plan.uuid}", {"backup_name": "renamed"}, format="json")
    shown = api("viewer").get(f"/api/record/backup/{record.pk}").json()
    assert shown["backup_detail"]["backup_name"] == plan.backup_name
    assert shown["backup_detail"]["tenant"]["secret_key"] == "********"
    assert "state" not in shown["backup_detail"]
    assert (shown["start_time"], shown["end_time"], shown["hold_time"], shown["state"]) == (1767225600, 1767225600, None, 0)


def test_lists_can_be_narrowed_down(api, plan, tmp_path) -> None:
    other = make_plan(tmp_path)
    first, second = make_record(plan), make_record(other, state=State.FAILED)
    viewer = api("viewer")
    assert ids(viewer.get("/api/record/backup")) == [second.pk, first.pk]
    assert ids(viewer.get("/api/record/backup", {"backup": str(plan.uuid)})) == [first.pk]
    assert ids(viewer.get("/api/record/backup", {"client": other.client.ipv4})) == [second.pk]
    assert ids(viewer.get("/api/record/backup", {"state": [3, 4]})) == [second.pk]
    assert ids(viewer.get("/api/record/backup", {"since": 4102444800})) == []
    assert ids(viewer.get("/api/record/backup", {"until": 4102444800})) == [second.pk, first.pk]
    assert ids(viewer.get("/api/record/backup", {"backup": str(uuid.uuid4())})) == []


@pytest.mark.parametrize("kind", ["backup", "recovery"])
def test_a_client_is_found_by_either_address_in_any_form(api, plan, tmp_path, kind) -> None:
    by_number, by_text = make_client(ipv4=2886769509), make_client(ipv4=None, ipv6="fe80::1")
    wanted = {}
    for client in (by_number, by_text):
        record = make_record(make_plan(tmp_path, client=client))
        recovery = request_recovery(client, record, '{"destination": "/back"}')
        wanted[client] = [(record if kind == "backup" else recovery).pk]
    viewer = api("viewer")
    for client, texts in {by_number: ["2886769509", "172.16.155.101"], by_text: ["fe80::1", "FE80:0::1"]}.items():
        for text in texts:
            encoded = base64.b64encode(text.encode()).decode()
            for key in (text, encoded, encoded.rstrip("=")):
                assert ids(viewer.get(f"/api/record/{kind}", {"client": key})) == wanted[client]


def test_recoveries_can_be_narrowed_down(api, plan, tmp_path) -> None:
    other = make_plan(tmp_path)
    first, second = (request_recovery(one.client, make_record(one), '{"destination": "/back"}') for one in (plan, other))
    RecoveryRecord.objects.filter(pk=first.pk).update(state=State.SUCCESS)
    viewer, lists = api("viewer"), "/api/record/recovery"
    assert ids(viewer.get(lists)) == [second.pk, first.pk]
    assert ids(viewer.get(lists, {"state": 1})) == [second.pk]
    assert ids(viewer.get(lists, {"since": 4102444800})) == []
    assert ids(viewer.get(lists, {"until": 4102444800, "client": plan.client.ipv4})) == [first.pk]
    assert ids(viewer.get(lists, {"backup": str(plan.uuid)})) == [first.pk]
    assert api("operator").delete(f"/api/record/backup/{first.backup_record.pk}").status_code == 204
    assert ids(viewer.get(lists, {"backup": str(plan.uuid)})) == [first.pk]


@pytest.mark.parametrize(
    ("name", "value"),
    [("state", 9), ("backup", "x"), ("since", "x"), ("since", -1), ("until", "x"), ("until", 1 << 70),
     ("client", "host"), ("client", "1.2.3"), ("client", "fe80::1%eth0"), ("client", 1 << 32), ("client", "\0")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["backup", "recovery"])
def test_a_filter_that_makes_no_sense_is_refused(api, db, kind, name, value) -> None:
    answer = api("viewer").get(f"/api/record/{kind}", {name: value})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [name]


@pytest.mark.parametrize("kind", ["backup", "recovery"])
def test_lists_take_as_many_queries_for_fifty_records_as_for_one(api, plan, kind, django_assert_num_queries) -> None:
    record = make_record(plan)
    request_recovery(plan.client, record, '{"destination": "/back"}')
    viewer = api("viewer")
    with CaptureQueriesContext(connection) as one:
        viewer.get(f"/api/record/{kind}?page_size=200")
    for _ in range(49):
        request_recovery(plan.client, make_record(plan), '{"destination": "/back"}')
    with django_assert_num_queries(len(one)):
        assert len(ids(viewer.get(f"/api/record/{kind}?page_size=200"))) == 50


@pytest.mark.parametrize("kind", ["backup", "recovery"])
def test_a_page_holds_twenty_unless_asked_and_never_more_than_two_hundred(api, plan, kind) -> None:
    record = make_record(plan)
    if kind == "backup":
        BackupRecord.objects.bulk_create(
            BackupRecord(plan_uuid=plan.uuid, backup_detail={}, repository=plan.repository, state=State.SUCCESS) for _ in range(200)
        )
    else:
        detail = {"id": record.pk, "hold_time": None}
        RecoveryRecord.objects.bulk_create(RecoveryRecord(backup_record_detail=detail, state=State.SUCCESS) for _ in range(201))
    viewer, lists = api("viewer"), f"/api/record/{kind}"
    first = viewer.get(lists).json()
    assert (len(first["Data"]), first["total_page"], first["total"]) == (20, 11, 201)
    widest = viewer.get(lists, {"page_size": 1000}).json()
    assert (len(widest["Data"]), widest["total_page"]) == (200, 2)
    assert len(ids(viewer.get(lists, {"page": 11}))) == 1
    for past in ("12", "9" * 26):
        assert viewer.get(lists, {"page": past}).status_code == 404
    for query in ({"page": 0}, {"page": "x"}, {"page_size": 0}, {"page_size": "x"}):
        assert viewer.get(lists, query).status_code == 400


def test_records_need_a_token_and_viewers_only_look(api, plan) -> None:
    backup = make_record(plan, state=State.QUEUED)
    recovery = request_recovery(plan.client, make_record(plan), '{"destination": "/back"}')
    for address in (f"/api/record/backup/{backup.pk}", f"/api/record/recovery/{recovery.pk}"):
        viewer, nobody = api("viewer"), api(None)
        assert viewer.get(address).status_code == 200
        assert viewer.post(f"{address}/cancel").status_code == 403
        assert viewer.delete(address).status_code == 403
        for answer in (nobody.get(address), nobody.post(f"{address}/cancel"), nobody.delete(address)):
            assert answer.status_code == 401
    for step in ("files", "download"):
        assert api(None).get(f"/api/record/backup/{backup.pk}/{step}").status_code == 401
    for kind in ("backup", "recovery"):
        assert api(None).get(f"/api/record/{kind}").status_code == 401


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_active_recovery_is_cancelled_before_it_is_deleted(api, plan, state) -> None:
    recovery = request_recovery(plan.client, make_record(plan), '{"destination": "/back"}')
    if state == State.RUNNING:
        hand_over(recovery, 1)
    operator, address = api("operator"), f"/api/record/recovery/{recovery.pk}"
    assert operator.delete(address).status_code == 409
    shown = operator.post(f"{address}/cancel").json()
    if state == State.RUNNING:
        assert (shown["state"], shown["cancel_requested"]) == (2, True)
        assert operator.delete(address).status_code == 409
    else:
        assert shown["state"] == 4
        assert operator.post(f"{address}/cancel").status_code == 409
        assert operator.delete(address).status_code == 204


def test_no_role_sees_a_secret_key_in_a_plan_or_a_record(api, plan) -> None:
    Tenant.objects.update(access_key="known", secret_key="hidden-from-all")
    plan.refresh_from_db()
    record = make_record(plan)
    recovery = request_recovery(plan.client, record, '{"destination": "/back"}')
    addresses = [
        "/api/backup", f"/api/backup/{plan.uuid}", "/api/record/backup", f"/api/record/backup/{record.pk}",
        "/api/record/recovery", f"/api/record/recovery/{recovery.pk}",
    ]  # fmt: skip
    for role in ("viewer", "operator", "administrator"):
        for address in addresses:
            text = api(role).get(address).content.decode()
            assert "********" in text
            assert "hidden-from-all" not in text
    assert "hidden-from-all" in api("administrator").get("/api/tenant").content.decode()


def test_a_queued_job_is_cancelled_at_once_and_an_ended_one_not_at_all(api, plan) -> None:
    queued, ended = make_record(plan, state=State.QUEUED), make_record(plan)
    assert api("operator").post(f"/api/record/backup/{queued.pk}/cancel").json()["state"] == 4
    assert api("operator").post(f"/api/record/backup/{ended.pk}/cancel").status_code == 409
    assert api("viewer").post(f"/api/record/backup/{queued.pk}/cancel").status_code == 403


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_an_active_record_cannot_be_deleted(api, plan, state) -> None:
    record = make_record(plan, state=state)
    assert api("operator").delete(f"/api/record/backup/{record.pk}").status_code == 409
    assert BackupRecord.objects.filter(pk=record.pk).exists()


def test_a_deleted_backup_record_is_gone_from_all_lists_and_nothing_is_forgotten_yet(api, plan) -> None:
    record = make_record(plan, snapshot="b" * 64)
    assert api("viewer").delete(f"/api/record/backup/{record.pk}").status_code == 403
    operator, viewer = api("operator"), api("viewer")
    assert operator.delete(f"/api/record/backup/{record.pk}/").status_code == 204
    for step in ("", "/files", "/download"):
        assert viewer.get(f"/api/record/backup/{record.pk}{step}").status_code == 404
    assert ids(viewer.get("/api/record/backup")) == []
    assert operator.delete(f"/api/record/backup/{record.pk}").status_code == 404
    asked = {"client": {"ipv4": plan.client.ipv4}, "backup_record": {"id": record.pk}, "recovery_data": '{"destination": "/back"}'}
    assert operator.post("/api/recovery", asked, format="json").status_code == 400
    assert not MaintenanceRun.objects.exists()


def test_a_recoverys_history_outlives_the_backup_record(api, plan) -> None:
    record = make_record(plan)
    recovery = request_recovery(plan.client, record, '{"destination": "/back"}')
    assert api("operator").delete(f"/api/record/backup/{record.pk}").status_code == 409
    RecoveryRecord.objects.update(state=State.SUCCESS)
    assert api("operator").delete(f"/api/record/backup/{record.pk}").status_code == 204
    shown = api("viewer").get(f"/api/record/recovery/{recovery.pk}").json()
    assert shown["backup_record"]["id"] == record.pk
    assert api("operator").delete(f"/api/record/recovery/{recovery.pk}").status_code == 204


@pytest.mark.parametrize(
    ("hold_type", "hold_time", "until"),
    [
        (0, 0, None),
        (1, 3, datetime(2028, 2, 3, tzinfo=UTC)),
        (2, 1, datetime(2028, 2, 7, tzinfo=UTC)),
        (3, 1, datetime(2028, 2, 29, tzinfo=UTC)),
        (4, 1, datetime(2029, 1, 31, tzinfo=UTC)),
        (5, 10, None),
    ],
)
def test_a_backup_is_held_for_as_long_as_its_plan_said(hold_type, hold_time, until) -> None:
    end = datetime(2028, 1, 31, tzinfo=UTC)
    assert hold_until({"hold_type": hold_type, "hold_time": hold_time}, end) == until


def test_what_a_deleted_client_has_to_do_is_cancelled(api, plan) -> None:
    other = make_client()
    queued, running = (request_recovery(other, make_record(plan), '{"destination": "/back"}') for _ in range(2))
    hand_over(running, 1)
    administrator = api("administrator")
    # What is kept is in the server's language and not in that of who asks.
    administrator.credentials(**administrator._credentials, HTTP_ACCEPT_LANGUAGE="zh-hans")
    assert administrator.delete(f"/api/client/{other.ipv4}").status_code == 204
    queued.refresh_from_db()
    assert (queued.state, queued.error) == (State.CANCELLED, "The client was deleted.")
    # At once, though nobody can tell its agent.
    running.refresh_from_db()
    assert running.state == State.CANCELLED


def test_a_client_with_history_can_go_when_its_plans_are_gone(api, plan) -> None:
    record = make_record(plan, client=make_client())
    assert api("administrator").delete(f"/api/client/{record.client.ipv4}").status_code == 204
    assert api("viewer").get(f"/api/record/backup/{record.pk}").status_code == 200
