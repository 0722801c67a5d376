"""What an agent's doctor asks and tells."""

import time

from clients.models import Client, JoinToken
from tests.factories import make_plan

CHECKS = [
    {"name": "reading", "status": "note", "found": "only what is open", "fix": "grant more"},
    {"name": "store", "status": "failed", "found": "https://s3: refused", "fix": "open the firewall"},
    {"name": "clock", "status": "ok", "found": "0 s ahead"},
]


def agent_of(api, client: Client):
    _row, token = JoinToken.issue(client)
    agent = api(None)
    joined = agent.post("/api/agent/join", {"token": token, "hostname": "h", "ipv4": 1}, format="json").json()
    agent.credentials(HTTP_AUTHORIZATION=f"Agent {joined['token']}")
    return agent


def test_it_is_told_where_its_own_stores_are_and_nothing_that_opens_them(api, db, tmp_path) -> None:
    plan = make_plan(tmp_path / "own")
    make_plan(tmp_path / "another's")
    answer = agent_of(api, plan.client).post("/api/agent/stores", {}, format="json")
    told = answer.json()
    assert abs(told["time"] - time.time()) < 60
    assert told["stores"] == [{"address": str(tmp_path / "own"), "authorities": ""}]
    assert plan.repository.password not in answer.content.decode()


def test_what_it_found_is_shown_with_the_client_and_replaced_by_what_it_finds_next(api, account, db, client) -> None:
    host = Client.objects.create(ipv4=7, hostname="client7")
    agent = agent_of(api, host)
    assert agent.post("/api/agent/checks", {"checks": CHECKS}, format="json").status_code == 200
    shown = api("viewer").get("/api/client/7").json()
    assert shown["problems"] == ["store: https://s3: refused → open the firewall"]
    assert abs(shown["checked_at"] - time.time()) < 60
    assert [check["name"] for check in shown["checks"]] == ["reading", "store", "clock"]
    assert "checks" not in api("viewer").get("/api/client").json()[0]
    client.force_login(account("administrator"))
    page = client.get(f"/admin/clients/client/{host.pk}/change/").content.decode()
    assert "✗ store: https://s3: refused → open the firewall" in page
    agent.post("/api/agent/checks", {"checks": []}, format="json")
    assert api("viewer").get("/api/client/7").json()["problems"] == []


def test_checks_that_cannot_be_are_400(api, db) -> None:
    agent = agent_of(api, Client.objects.create(ipv4=7, hostname="client7"))
    for checks in (None, "x", [{}], [{**CHECKS[0], "status": "fine"}], [CHECKS[0]] * 101):
        assert agent.post("/api/agent/checks", {"checks": checks}, format="json").status_code == 400
