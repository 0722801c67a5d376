"""What the pages of stores, hosts and notifications let people do without selecting rows in a list first."""

import html
import re
from typing import Any

import pytest
from django.db.models import Model
from django.test import Client as Browser
from django.urls import reverse

from clients.models import JoinToken
from records.models import Channel
from tests.factories import make_client


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
