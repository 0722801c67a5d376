"""`/api/backup` and `/api/recovery`, row by row of the contract and refusal by refusal."""

import itertools
import json
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from backupcenter.api.exceptions import Conflict
from jobs.models import BackupPlan
from jobs.planning import run_plan
from jobs.scheduling import fire_due_plans
from records.models import BackupRecord, Event, RecoveryRecord, State
from storage.models import Endpoint, Tenant
from tests.factories import make_client, make_plan, make_record, make_tenant

DATA = json.dumps({"include": ["a.txt", "directory"], "exclude": ["directory/c.txt"]})


@pytest.fixture
def body(db, tmp_path: Path) -> dict:
    client, tenant = make_client(), make_tenant(tmp_path / "store")
    (tmp_path / "store").mkdir()
    return {
        "backup_name": "backup1",
        "backup_group": 1,
        "client": {"ipv4": client.ipv4},
        "tenant": {"username": tenant.username, "endpoint": {"address": tenant.endpoint.address}},
        "bucket": "bucket-1",
        "cron_expression": "0/3 * * * * ? ",
        "start_time": 1589627522,
        "end_time": None,
        "hold_time": 0,
        "hold_type": 0,
        "backup_data": DATA,
    }


@pytest.fixture
def plan(db, tmp_path: Path) -> BackupPlan:
    return make_plan(tmp_path)


def test_a_new_plan_is_answered_whole(api, body) -> None:
    answer = api("operator").post("/api/backup", body, format="json")
    assert answer.status_code == 201, answer.json()
    shown = answer.json()
    assert shown["uuid"]
    assert shown["client"]["ipv4"] == body["client"]["ipv4"]
    assert shown["tenant"]["username"] == "backup"
    assert shown["tenant"]["secret_key"] == "********"
    assert shown["tenant"]["endpoint"]["address"] == body["tenant"]["endpoint"]["address"]
    assert shown["cron_expression"] == "0/3 * * * * ?"
    assert shown["start_time"] == 1589627522
    assert shown["end_time"] is None
    assert shown["backup_data"] == DATA
    assert shown["state"] == 0
    assert Path(shown["repository"], "config").exists()
    again = api("viewer").get(f"/api/backup/{shown['uuid']}/")
    assert again.json() == shown


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron_expression": "0 0 25 * * ?"}, "cron_expression"),
        ({"cron_expression": "0 0 0 30 2 ?"}, "cron_expression"),
        ({"cron_expression": "0 0 0 * * ? 2019"}, "cron_expression"),
        ({"client": {"ipv4": 1}}, "client"),
        ({"tenant": {"username": "nobody", "endpoint": {"address": "/nowhere"}}}, "tenant"),
        ({"bucket": "../up"}, "bucket"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"end_time": 1589627522}, "end_time"),
        ({"hold_type": 6}, "hold_type"),
        ({"hold_type": 1, "hold_time": 0}, "hold_time"),
        ({"hold_type": 4, "hold_time": 10**12}, "hold_time"),
        ({"backup_data": "{"}, "backup_data"),
        ({"backup_data": '{"include": []}'}, "backup_data"),
        ({"backup_data": '{"include": ["a\\u0000b"]}'}, "backup_data"),
        ({"backup_data": '{"include": ["a"], "exclude": ["["]}'}, "backup_data"),
        ({"backup_name": ""}, "backup_name"),
        ({"start_time": None}, "start_time"),
        ({"start_time": "soon"}, "start_time"),
    ],
)
def test_a_bad_field_is_named(api, body, change, field) -> None:
    answer = api("operator").post("/api/backup", {**body, **change}, format="json")
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert any(name.split(".")[0] == field for name in answer.json()["fields"]), answer.json()
    assert not BackupPlan.objects.exists()


def test_viewers_may_look_and_not_change(api, body, plan) -> None:
    viewer = api("viewer")
    address = f"/api/backup/{plan.uuid}"
    assert viewer.get("/api/backup").status_code == 200
    assert viewer.post("/api/backup", body, format="json").status_code == 403
    assert viewer.put(address, {}, format="json").status_code == 403
    assert viewer.delete(address).status_code == 403
    assert viewer.post(f"{address}/run").status_code == 403
    assert api(None).get("/api/backup").status_code == 401


def test_viewers_neither_pause_resume_nor_recover_and_nobody_needs_a_token_for_nothing(api, plan) -> None:
    asked = recovery(make_record(plan))
    for role, status in (("viewer", 403), (None, 401)):
        client = api(role)
        for step in ("run", "pause", "resume"):
            assert client.post(f"/api/backup/{plan.uuid}/{step}").status_code == status
        assert client.post("/api/recovery", asked, format="json").status_code == status
    assert api(None).get(f"/api/backup/{plan.uuid}/next").status_code == 401
    assert not RecoveryRecord.objects.exists()


def test_a_plan_without_an_expression_runs_once_and_has_ended(api, body) -> None:
    start = int(timezone.now().timestamp()) + 100
    fields = body | {"cron_expression": None, "start_time": start}
    shown = api("operator").post("/api/backup", fields, format="json").json()
    assert (shown["cron_expression"], shown["next_time"], shown["state"]) == (None, start, 0)
    assert fire_due_plans(datetime.fromtimestamp(start, UTC)) == 1
    record = BackupRecord.objects.get()
    assert api("operator").post(f"/api/record/backup/{record.pk}/cancel").status_code == 200
    shown = api("viewer").get(f"/api/backup/{shown['uuid']}").json()
    assert (shown["state"], shown["next_time"]) == (4, None)


def test_a_plan_whose_years_are_over_has_ended_and_can_still_be_renamed(api, body) -> None:
    operator = api("operator")
    shown = operator.post("/api/backup", body | {"cron_expression": "0 0 0 * * ? 2020"}, format="json").json()
    assert (shown["state"], shown["next_time"]) == (4, None)
    assert operator.put(f"/api/backup/{shown['uuid']}", {"backup_name": "old"}, format="json").status_code == 200


def test_nothing_fires_before_the_start(api, body) -> None:
    start = int(timezone.now().timestamp()) + 10 * 86400
    shown = api("operator").post("/api/backup", body | {"start_time": start}, format="json").json()
    assert start <= shown["next_time"] < start + 3
    assert fire_due_plans() == 0


def test_plans_that_share_a_bucket_write_to_one_repository(api, body) -> None:
    operator = api("operator")
    repositories = []
    for client in (make_client(), make_client()):
        fields = body | {"client": {"ipv4": client.ipv4}}
        repositories.append([operator.post("/api/backup", fields | {"shared": shared}, format="json").json()["repository"]
                             for shared in (True, False)])  # fmt: skip
    assert repositories[0][0] == repositories[1][0]
    assert len({repository for pair in repositories for repository in pair}) == 3


def test_a_bucket_of_a_store_that_does_not_answer_is_named(api, body) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    endpoint = Endpoint.objects.create(address=address, https=False, type=1)
    Tenant.objects.create(endpoint=endpoint, username="s3user", access_key="key", secret_key="hidden")
    tenant = {"username": "s3user", "endpoint": {"address": address}}
    answer = api("operator").post("/api/backup", body | {"tenant": tenant}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == ["bucket"]
    assert address in answer.json()["error"]
    assert "hidden" not in answer.content.decode()
    assert not BackupPlan.objects.exists()


def test_put_changes_what_is_sent_and_leaves_the_rest(api, plan) -> None:
    answer = api("operator").put(
        f"/api/backup/{plan.uuid}", {"backup_name": "other", "cron_expression": "0/5 * * * * ? "}, format="json"
    )
    assert answer.status_code == 200
    assert (answer.json()["backup_name"], answer.json()["cron_expression"]) == ("other", "0/5 * * * * ?")
    assert answer.json()["bucket"] == plan.bucket
    assert answer.json()["backup_data"] == plan.backup_data


def test_a_plan_counts_in_the_servers_time_zone_unless_it_says_another(api, body, settings) -> None:
    settings.TIME_ZONE = "Asia/Shanghai"
    body |= {"cron_expression": "0 0 3 * * ?"}
    client = api("operator")
    by_default = client.post("/api/backup", body, format="json").json()
    given = client.post("/api/backup", body | {"timezone": "America/New_York"}, format="json").json()
    assert (by_default["timezone"], given["timezone"]) == ("Asia/Shanghai", "America/New_York")
    assert by_default["next_time"] % 86400 == 19 * 3600
    assert given["next_time"] % 86400 in (7 * 3600, 8 * 3600)


@pytest.mark.parametrize("name", ["client", "tenant", "bucket", "shared", "paused", "repository", "uuid"])
def test_what_cannot_be_changed_is_refused_and_not_left_out_in_silence(api, plan, tmp_path, name) -> None:
    others = {
        "client": {"ipv4": make_client().ipv4},
        "tenant": {"username": make_tenant(tmp_path, "other").username, "endpoint": {"address": str(tmp_path)}},
        "bucket": "bucket-2",
        "shared": True,
        "paused": True,
        "repository": "/elsewhere",
        "uuid": "00000000-0000-0000-0000-000000000000",
    }
    operator, address = api("operator"), f"/api/backup/{plan.uuid}"
    before = operator.get(address).json()
    answer = operator.put(address, {"backup_name": "other", name: others[name]}, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [name]
    assert operator.get(address).json() == before


def test_a_plan_may_be_sent_back_whole(api, plan) -> None:
    operator, address = api("operator"), f"/api/backup/{plan.uuid}"
    whole = operator.get(address).json()
    answer = operator.put(address, {**whole, "shared": False, "backup_group": 7}, format="json")
    assert answer.status_code == 200, answer.json()
    assert answer.json() == {**whole, "backup_group": 7}


def test_a_bad_change_changes_nothing(api, plan) -> None:
    answer = api("operator").put(f"/api/backup/{plan.uuid}", {"backup_name": "x", "cron_expression": "x"}, format="json")
    assert answer.status_code == 400
    plan.refresh_from_db()
    assert plan.backup_name != "x"


def test_deleting_hides_the_plan_cancels_its_run_and_keeps_its_history(api, plan) -> None:
    done, queued = make_record(plan), make_record(plan, state=State.QUEUED)
    running = make_record(plan, state=State.RUNNING)
    assert api("operator").delete(f"/api/backup/{plan.uuid}/").status_code == 204
    assert api("viewer").get(f"/api/backup/{plan.uuid}").status_code == 404
    assert api("viewer").get("/api/backup").json()["total"] == 0
    queued.refresh_from_db()
    running.refresh_from_db()
    assert queued.state == State.CANCELLED
    assert running.cancel_requested
    assert api("viewer").get(f"/api/record/backup/{done.pk}").json()["backup_detail"]["uuid"] == str(plan.uuid)


def test_lists_are_paged_newest_first(api, plan, tmp_path) -> None:
    newest = make_plan(tmp_path)
    page = api("viewer").get("/api/backup", {"page_size": 1}).json()
    assert (page["page"], page["total_page"], page["total"]) == (1, 2, 2)
    assert page["Data"][0]["uuid"] == str(newest.uuid)
    assert api("viewer").get("/api/backup", {"page": 3, "page_size": 1}).status_code == 404
    assert api("viewer").get("/api/backup", {"page": "x"}).status_code == 400


def test_a_list_takes_as_many_queries_for_fifty_plans_as_for_one(api, plan, tmp_path, django_assert_num_queries) -> None:
    from django.db import connection

    viewer = api("viewer")
    with CaptureQueriesContext(
        connection,
    ) as one:
        viewer.get("/api/backup?page_size=200")
    for _ in range(49):
        make_record(make_plan(tmp_path, client=plan.client), state=State.RUNNING)
    with django_assert_num_queries(len(one)):
        answer = viewer.get("/api/backup?page_size=200")
    assert len(answer.json()["Data"]) == 50


def test_state_tells_what_the_plan_is_doing(api, plan) -> None:
    def state() -> int:
        return api("viewer").get(f"/api/backup/{plan.uuid}").json()["state"]

    assert state() == 0
    record = make_record(plan, state=State.QUEUED)
    assert state() == 1
    BackupRecord.objects.filter(pk=record.pk).update(state=State.RUNNING)
    assert state() == 2
    record.delete()
    assert api("operator").post(f"/api/backup/{plan.uuid}/pause").json()["state"] == 3
    assert api("operator").post(f"/api/backup/{plan.uuid}/resume").json()["state"] == 0
    api("operator").put(f"/api/backup/{plan.uuid}", {"end_time": 1767225601}, format="json")
    assert state() == 4


def test_a_run_by_hand_is_queued_once(api, plan) -> None:
    answer = api("operator").post(f"/api/backup/{plan.uuid}/run")
    assert answer.status_code == 201
    assert answer.json()["state"] == 1
    assert answer.json()["scheduled_time"] is None
    assert api("operator").post(f"/api/backup/{plan.uuid}/run").status_code == 409


def test_next_tells_the_coming_fires(api, plan) -> None:
    fires = api("viewer").get(f"/api/backup/{plan.uuid}/next", {"count": 3}).json()["next"]
    assert len(fires) == 3
    assert {b - a for a, b in itertools.pairwise(fires)} == {86400}
    assert len(api("viewer").get(f"/api/backup/{plan.uuid}/next").json()["next"]) == 5
    assert len(api("viewer").get(f"/api/backup/{plan.uuid}/next", {"count": 1000}).json()["next"]) == 1000
    for count in (0, 1001, -1, "x", "", "9" * 30):
        assert api("viewer").get(f"/api/backup/{plan.uuid}/next", {"count": count}).status_code == 400


def recovery(record: BackupRecord, **data) -> dict:
    return {
        "client": {"ipv4": record.client.ipv4},
        "backup_record": {"id": record.pk},
        "recovery_data": json.dumps({"destination": "back", **data}),
    }


def test_a_recovery_is_queued_and_answered_whole(api, plan) -> None:
    record = make_record(plan)
    answer = api("operator").post("/api/recovery", recovery(record), format="json")
    assert answer.status_code == 201
    shown = answer.json()
    assert shown["state"] == 1
    assert shown["client"]["ipv4"] == plan.client.ipv4
    assert shown["backup_record"]["id"] == record.pk
    assert shown["backup_record"]["backup_detail"]["uuid"] == str(plan.uuid)
    assert json.loads(shown["recovery_data"]) == {"destination": "back"}
    assert api("viewer").get(f"/api/record/recovery/{shown['id']}").json() == shown


def test_a_recovery_may_go_to_another_client(api, plan) -> None:
    body = recovery(make_record(plan)) | {"client": {"ipv4": make_client().ipv4}}
    assert api("operator").post("/api/recovery", body, format="json").status_code == 201


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.LOST, State.QUEUED, State.RUNNING])
def test_nothing_is_restored_from_what_did_not_succeed(api, plan, state) -> None:
    answer = api("operator").post("/api/recovery", recovery(make_record(plan, state=state)), format="json")
    assert answer.status_code == 409
    assert not RecoveryRecord.objects.exists()


@pytest.mark.parametrize(
    "data", ["{", "[]", "{}", '{"destination": ""}', '{"destination": "a\\u0000"}', '{"destination": "x", "overwrite": "maybe"}',
             '{"destination": "x", "include": "y"}', '{"destination": "x", "verify": 1}']
)  # fmt: skip
def test_bad_recovery_data_is_refused(api, plan, data) -> None:
    body = recovery(make_record(plan)) | {"recovery_data": data}
    answer = api("operator").post("/api/recovery", body, format="json")
    assert answer.status_code == 400
    assert "recovery_data" in answer.json()["fields"]


def test_a_deleted_plan_keeps_nothing_from_being_deleted_that_nobody_can_see(api, plan) -> None:
    administrator = api("administrator")
    assert administrator.delete(f"/api/client/{plan.client.ipv4}").status_code == 409
    assert administrator.delete(f"/api/backup/{plan.uuid}").status_code == 204
    assert administrator.delete(f"/api/client/{plan.client.ipv4}").status_code == 204


def test_a_plan_that_was_deleted_meanwhile_is_not_run(plan) -> None:
    BackupPlan.objects.all().delete()
    with pytest.raises(Conflict):
        run_plan(plan)
    assert not BackupRecord.objects.exists()


def test_what_is_kept_is_in_the_language_of_the_server_and_not_of_who_asks(api, plan) -> None:
    record = make_record(plan, state=State.QUEUED)
    operator = api("operator")
    operator.credentials(**operator._credentials, HTTP_ACCEPT_LANGUAGE="zh-hans")
    assert operator.delete(f"/api/backup/{plan.uuid}").status_code == 204
    record.refresh_from_db()
    assert record.error == "The backup plan was deleted."
    assert Event.objects.get(topic=Event.Topic.BACKUP).title == f"Backup {record}: cancelled"
