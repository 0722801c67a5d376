"""What the pages of stores, hosts and notifications let people do without selecting rows in a list first."""

import csv
import html
import json
import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models import Model
from django.test import Client as Browser
from django.urls import reverse

from clients.models import JoinToken
from records.models import Channel, Event, Rule
from tests.factories import make_client, make_plan


def page_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def press(browser: Browser, row: Model, name: str) -> str:
    """Press a button of the row's page, and return the page that comes then."""
    shown = browser.get(page_of(row)).content.decode()
    form = re.search(r'<form class="console" method="post" action="([^"]*)"', shown)
    assert form
    assert f'name="action" value="{name}"' in shown
    return html.unescape(browser.post(form[1], {"action": name, "_selected_action": row.pk}, follow=True).content.decode())


@pytest.fixture
def administrator(account: Any) -> Browser:
    browser = Browser()
    browser.force_login(account("administrator"))
    return browser


def test_a_clients_page_gives_the_command_to_join_with(administrator: Browser) -> None:
    client = make_client()
    page = press(administrator, client, "issue_join_token")
    assert re.search(r"<code>backupcenter-agent join --center \S+ --token=\S+</code><button[^>]* data-copy>", page)
    assert JoinToken.objects.get().client == client


def test_a_channels_page_sends_a_test(administrator: Browser, monkeypatch) -> None:
    channel = Channel.objects.create(name="mail", address="mailtos://user:password@127.0.0.1:1")
    told = []
    monkeypatch.setattr("records.notifying.admin.send_test", told.append)
    assert "A test was sent on mail." in press(administrator, channel, "send_test")
    assert told == [channel]


def test_a_button_is_only_for_who_may_do_it(account: Any) -> None:
    viewer = Browser()
    viewer.force_login(account("viewer"))
    assert "issue_join_token" not in viewer.get(page_of(make_client())).content.decode()


def test_a_rule_names_its_plans(administrator: Browser, tmp_path) -> None:
    plan, other = make_plan(tmp_path, backup_name="Mailboxes"), make_plan(tmp_path, backup_name="Wiki")
    channel = Channel.objects.create(name="mail", address="mailtos://user:password@127.0.0.1:1")
    rule = Rule.objects.create(name="grave", occasions=["failed"], plans=[str(plan.uuid)])
    shown = administrator.get(page_of(rule)).content.decode()
    assert re.search(r'<textarea[^>]*name="plans"[^>]*>\s*Mailboxes</textarea>', shown)
    fields = {"name": "grave", "occasions": ["failed"], "channels": [channel.pk], "digest": "immediate", "timezone": "UTC"}

    def save(plans: str) -> str:
        return html.unescape(administrator.post(page_of(rule), {**fields, "plans": plans}).content.decode())

    save(f"Wiki\n{plan.uuid}\n")
    rule.refresh_from_db()
    assert rule.plans == [str(other.uuid), str(plan.uuid)]
    assert "There is no plan with the name Wikis." in save("Wikis")
    make_plan(tmp_path, backup_name="Wiki")
    assert "Several plans have the name Wiki" in save("Wiki")


@pytest.mark.parametrize("form", ["csv", "lines"])
def test_the_events_that_are_selected_are_exported(administrator: Browser, form: str) -> None:
    for title in ("first", "=second", "third"):
        Event.objects.create(level=80, topic=1, title=title)
    chosen = list(Event.objects.filter(title__in=["first", "=second"]).values_list("pk", flat=True))
    address = reverse("admin:records_event_changelist")
    answer = administrator.post(address, {"action": f"export_{form}", "_selected_action": chosen})
    lines = b"".join(async_to_sync(_all_of)(answer)).decode().splitlines()
    if form == "csv":
        assert [row["title"] for row in csv.DictReader(lines)] == ["first", "'=second"]
    else:
        assert [json.loads(line)["title"] for line in lines] == ["first", "=second"]


async def _all_of(answer: Any) -> list[bytes]:
    return [piece async for piece in answer.streaming_content]
