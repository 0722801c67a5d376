"""Clients through the API: the hosts that are backed up, keyed by their addresses in any form."""

import base64
from datetime import timedelta
from urllib.parse import quote

import pytest
from django.db.models.signals import pre_save
from django.test import Client as Browser
from django.urls import reverse
from django.utils import timezone

from clients.joining import join
from clients.models import Client, JoinToken
from jobs.models import BackupPlan
from storage.models import Endpoint, Repository, Tenant

BODY = {"ipv4": 2886769509, "ipv6": None, "hostname": "client1"}


@pytest.fixture
def client_row(db) -> Client:
    return Client.objects.create(**BODY)


def post(client, **fields):
    return client.post("/api/client", {**BODY, **fields}, format="json")


def forms_of(text: str) -> list[str]:
    encoded = base64.b64encode(text.encode()).decode()
    return [text, quote(text, safe=""), encoded, encoded.rstrip("="), quote(encoded, safe="")]


def test_one_is_registered(api) -> None:
    answer = post(api("administrator"))
    assert answer.status_code == 201
    body = answer.json()
    assert body.pop("id") == Client.objects.get().pk
    told = {"online": False, "last_seen": None, "version": "", "os": "", "protocol": None, "agent_status": None, "load": None}
    found = {"running": [], "checked_at": None, "problems": [], "allowed": []}
    assert body == {**BODY, "root": "/", "max_jobs": None, **found, **told}


def test_an_address_of_either_kind_is_enough(api) -> None:
    client = api("administrator")
    assert post(client, ipv4=None, ipv6="FE80:0::1").json()["ipv6"] == "fe80::1"
    assert post(client, ipv6="fe80::2").status_code == 201
    without = client.post("/api/client", {"hostname": "client1"}, format="json")
    assert without.status_code == 400
    assert post(client, ipv4=None, ipv6=None).status_code == 400


@pytest.mark.parametrize("fields", [{}, {"ipv4": 1, "ipv6": "fe80::1"}, {"ipv4": "172.16.155.101"}])
def test_an_address_that_is_taken_is_409(api, client_row, fields) -> None:
    Client.objects.create(ipv6="fe80::1", hostname="other")
    answer = post(api("administrator"), **fields)
    assert answer.status_code == 409


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ipv4", -1),
        ("ipv4", 2**32),
        ("ipv4", 2**80),
        ("ipv4", 1.5),
        ("ipv4", True),
        ("ipv4", "a.b.c.d"),
        ("ipv4", []),
        ("ipv6", "10.0.0.1"),
        ("ipv6", "zz::"),
        ("ipv6", "fe80::1%eth0"),
        ("ipv6", 5),
        ("ipv6", {}),
        ("hostname", ""),
        ("hostname", "a b"),
        ("hostname", "a/b"),
        ("hostname", "a\0"),
        ("hostname", "x" * 254),
        ("hostname", None),
        ("hostname", []),
        ("root", "relative"),
        ("root", ""),
    ],
)
def test_a_field_that_cannot_be_is_400(api, db, field, value) -> None:
    answer = post(api("administrator"), **{field: value})
    assert answer.status_code == 400
    assert field in answer.json()["fields"]


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("key", [*forms_of("2886769509"), *forms_of("172.16.155.101")])
def test_every_form_of_an_ipv4_key_finds_it(api, client_row, key, slash) -> None:
    client = api("administrator")
    assert client.get(f"/api/client/{key}{slash}").json()["hostname"] == "client1"
    changed = client.put(f"/api/client/{key}{slash}", {"hostname": "renamed"}, format="json")
    assert changed.json()["hostname"] == "renamed"
    assert client.delete(f"/api/client/{key}{slash}").status_code == 204
    assert client.delete(f"/api/client/{key}{slash}").status_code == 404


@pytest.mark.parametrize("key", forms_of("fe80::1"))
def test_one_without_an_ipv4_address_is_found_by_its_other(api, db, key) -> None:
    Client.objects.create(ipv6="fe80::1", hostname="client6")
    assert api("viewer").get(f"/api/client/{key}").json()["hostname"] == "client6"


@pytest.mark.parametrize("key", ["0", "4294967296", "1.2.3", "bm90aGluZw", "x", "-1", "٣", "MTIz/"])
def test_a_key_of_nobody_is_404(api, client_row, key) -> None:
    assert api("administrator").delete(f"/api/client/{key}").status_code == 404


def test_a_change_leaves_what_is_not_sent(api, client_row) -> None:
    answer = api("administrator").put("/api/client/2886769509", {"ipv6": "fe80::9"}, format="json")
    assert answer.status_code == 200
    assert (answer.json()["ipv4"], answer.json()["ipv6"]) == (BODY["ipv4"], "fe80::9")


def test_a_change_cannot_take_both_addresses(api, client_row) -> None:
    answer = api("administrator").put("/api/client/2886769509", {"ipv4": None}, format="json")
    assert answer.status_code == 400


def test_a_change_to_a_taken_address_is_409(api, client_row) -> None:
    Client.objects.create(ipv4=1, hostname="other")
    assert api("administrator").put("/api/client/1", {"ipv4": BODY["ipv4"]}, format="json").status_code == 409


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_only_administrators_change_them_and_everyone_reads_them(api, client_row, role) -> None:
    client = api(role)
    assert len(client.get("/api/client").json()) == 1
    assert post(client, ipv4=5).status_code == 403
    assert client.put("/api/client/2886769509", {"hostname": "x"}, format="json").status_code == 403
    assert client.delete("/api/client/2886769509").status_code == 403
    assert client.post("/api/client/2886769509/token").status_code == 403
    assert client.post("/api/client/2886769509/revoke").status_code == 403
    assert client.post("/api/jointoken").status_code == 403


def test_without_a_token_it_is_401(api, client_row) -> None:
    client = api(None)
    assert client.get("/api/client").status_code == 401
    assert post(client).status_code == 401
    assert client.delete("/api/client/2886769509").status_code == 401
    assert client.post("/api/client/2886769509/token").status_code == 401
    assert client.post("/api/jointoken").status_code == 401


def test_one_that_plans_use_is_409_and_names_them(api, client_row) -> None:
    tenant = Tenant.objects.create(endpoint=Endpoint.objects.create(address="host:1"), username="user")
    BackupPlan.objects.create(
        backup_name="nightly",
        client=client_row,
        tenant=tenant,
        repository=Repository.objects.create(tenant=tenant, bucket="bucket", password="x"),
        bucket="bucket",
        start_time=timezone.now(),
        backup_data="{}",
    )
    answer = api("administrator").delete("/api/client/2886769509")
    assert answer.status_code == 409
    assert "nightly" in answer.json()["error"]


def test_it_is_online_while_it_is_heard_of(api, client_row, settings) -> None:
    client = api("viewer")
    for age_s, online in ((settings.CLIENT_OFFLINE_S - 10, True), (settings.CLIENT_OFFLINE_S + 10, False)):
        Client.objects.update(last_seen=timezone.now() - timedelta(seconds=age_s))
        assert client.get("/api/client").json()[0]["online"] is online


@pytest.mark.parametrize("path", ["/api/client/2886769509/token", "/api/client/172.16.155.101/token/"])
def test_a_join_token_is_shown_once_with_the_command(api, client_row, settings, path) -> None:
    settings.PUBLIC_URL = "https://center.example"
    answer = api("administrator").post(path)
    assert answer.status_code == 201
    assert "no-store" in answer["Cache-Control"]
    body = answer.json()
    assert body["command"] == f"backupcenter-agent join --center https://center.example --token={body['token']}"
    row = JoinToken.objects.get()
    assert row.client == client_row
    assert row.created_by == "administrator"
    assert row.token_hash != body["token"]
    assert body["expires_at"] == int(row.expires_at.timestamp())


def test_a_join_token_may_be_bound_to_nobody(api, db) -> None:
    assert api("administrator").post("/api/jointoken/").status_code == 201
    assert JoinToken.objects.get().client is None


@pytest.mark.parametrize("rows", [1, 50])
def test_a_list_takes_a_fixed_number_of_queries(api, rows, django_assert_num_queries) -> None:
    for number in range(rows):
        Client.objects.create(ipv4=number, hostname=f"client{number}")
    client = api("viewer")
    with django_assert_num_queries(3):
        assert len(client.get("/api/client").json()) == rows


def test_a_page_of_clients_is_a_plain_array_for_who_asks_for_one(api, db) -> None:
    for number in range(5):
        Client.objects.create(ipv4=number, hostname=f"client{number}")
    client = api("viewer")
    assert "X-Total-Count" not in client.get("/api/client").headers
    last = client.get("/api/client?page=2&page_size=3")
    assert [row["hostname"] for row in last.json()] == ["client3", "client4"]
    assert last.headers["X-Total-Count"] == "5"
    assert client.get("/api/client?page=3&page_size=3").status_code == 404


@pytest.mark.parametrize("way", ["api", "console", "join"])
def test_a_change_leaves_alone_what_becomes_of_the_client_meanwhile(api, account, client_row, way) -> None:
    seen = timezone.now()

    def hear_of_it(sender, instance, **_extra) -> None:
        pre_save.disconnect(hear_of_it, sender=Client)
        Client.objects.filter(pk=client_row.pk).update(last_seen=seen, load=0.5)

    pre_save.connect(hear_of_it, sender=Client)
    try:
        if way == "api":
            assert api("administrator").put(f"/api/client/{BODY['ipv4']}", {"hostname": "new"}, format="json").status_code == 200
        elif way == "console":
            browser = Browser()
            browser.force_login(account("administrator"))
            address = reverse("admin:clients_client_change", args=[client_row.pk])
            form = {"hostname": "new", "ipv4": "172.16.155.101", "ipv6": "", "root": "/"}
            assert browser.post(address, form).status_code == 302
        else:
            join(JoinToken.issue(client_row)[1], hostname="client1", version="0.2.0")
    finally:
        pre_save.disconnect(hear_of_it, sender=Client)
    client_row.refresh_from_db()
    assert (client_row.last_seen, client_row.load) == (seen, 0.5)
    assert client_row.version == "0.2.0" if way == "join" else client_row.hostname == "new"
