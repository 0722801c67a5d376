"""The console: every model of these rooms has pages, roles hold there too, and secrets never show."""

import re

import pytest
from django.test import Client as Browser
from django.urls import reverse
from knox.models import AuthToken

from accounts.models import User
from clients.models import Client, JoinToken
from storage.models import Endpoint, Repository, Tenant
from tests.conftest import PASSWORD
from tests.factories import agent_token

SECRET = "nwCiFFIJfchFGRARxiDqKoeprWIkX2hKXLX7R1wh"


@pytest.fixture
def browser(account):
    def open_as(role: str) -> Browser:
        account(role)
        client = Browser()
        assert client.login(username=role, password=PASSWORD)
        return client

    return open_as


@pytest.fixture
def rows(db, tmp_path) -> dict[str, object]:
    endpoint = Endpoint.objects.create(address="host:1")
    tenant = Tenant.objects.create(endpoint=endpoint, username="s3user", access_key="key", secret_key=SECRET)
    client = Client.objects.create(ipv4=2886769509, hostname="client1")
    return {
        "storage_endpoint": endpoint,
        "storage_tenant": tenant,
        "storage_repository": Repository.objects.create(tenant=tenant, bucket="bucket", password=SECRET),
        "clients_client": client,
        "clients_jointoken": JoinToken.issue(client)[0],
    }


PAGES = ["storage_endpoint", "storage_tenant", "storage_repository", "clients_client", "clients_jointoken"]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("role", ["administrator", "viewer"])
def test_lists_searches_and_pages_show_no_secret(browser, rows, page, role) -> None:
    client = browser(role)
    for path in (
        reverse(f"admin:{page}_changelist"),
        reverse(f"admin:{page}_changelist") + "?q=172.16.155.101",
        reverse(f"admin:{page}_change", args=[rows[page].pk]),
    ):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert SECRET not in answer.content.decode()


@pytest.mark.parametrize("page", ["storage_endpoint", "storage_tenant", "clients_client", "clients_jointoken", "accounts_user"])
def test_only_administrators_add(browser, rows, page) -> None:
    path = reverse(f"admin:{page}_add")
    assert browser("administrator").get(path).status_code == 200
    assert browser("operator").get(path).status_code == 403
    assert browser("viewer").get(path).status_code == 403


def test_accounts_are_for_administrators(browser, rows) -> None:
    path = reverse("admin:accounts_user_changelist")
    assert browser("administrator").get(path).status_code == 200
    assert browser("viewer").get(path).status_code == 403


def test_a_tenant_is_created_from_its_keys(browser, db, monkeypatch) -> None:
    from storage.probing import TenantDescription

    described = TenantDescription("s3user", "S3 User", 5, 3)
    monkeypatch.setattr("storage.probing.describe_tenant", lambda *arguments: described)
    endpoint = Endpoint.objects.create(address="host:1")
    form = {"endpoint": endpoint.pk, "username": "", "access_key": "key", "secret_key": SECRET}
    answer = browser("administrator").post(reverse("admin:storage_tenant_add"), form)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    tenant = Tenant.objects.get()
    assert (tenant.username, tenant.display_name, tenant.quota) == ("s3user", "S3 User", 5)
    assert tenant.secret_key == SECRET


def test_keys_that_are_refused_are_said(browser, db, monkeypatch) -> None:
    from engine.errors import InvalidCredentials

    def refuse(*arguments):
        raise InvalidCredentials("SignatureDoesNotMatch")

    monkeypatch.setattr("storage.probing.describe_tenant", refuse)
    endpoint = Endpoint.objects.create(address="host:1")
    form = {"endpoint": endpoint.pk, "username": "", "access_key": "key", "secret_key": SECRET}
    page = browser("administrator").post(reverse("admin:storage_tenant_add"), form).content.decode()
    assert "SignatureDoesNotMatch" in page
    assert SECRET not in page
    assert not Tenant.objects.exists()


def test_a_stores_tenant_without_keys_is_refused_before_the_store_is_asked(browser, db) -> None:
    endpoint = Endpoint.objects.create(address="127.0.0.1:1", https=False)
    form = {"endpoint": endpoint.pk, "username": "", "access_key": "", "secret_key": ""}
    answer = browser("administrator").post(reverse("admin:storage_tenant_add"), form)
    assert set(answer.context["adminform"].form.errors) == {"access_key", "secret_key"}
    assert "Secret key" in answer.content.decode()
    assert not Tenant.objects.exists()


def test_an_empty_secret_keeps_the_present_one(browser, rows, monkeypatch) -> None:
    from storage.probing import TenantDescription

    tenant = rows["storage_tenant"]
    tried = []

    def describe(endpoint, access_key, secret_key):
        tried.append(secret_key)
        return TenantDescription("s3user", "S3 User", None, None)

    monkeypatch.setattr("storage.probing.describe_tenant", describe)
    path = reverse("admin:storage_tenant_change", args=[tenant.pk])
    answer = browser("administrator").post(path, {"access_key": "key", "secret_key": ""})
    assert answer.status_code == 302, answer.content.decode()[:3000]
    assert tried == [SECRET]
    tenant.refresh_from_db()
    assert tenant.secret_key == SECRET


def test_a_client_is_written_with_dots(browser, db) -> None:
    form = {"hostname": "client1", "ipv4": "172.16.155.101", "ipv6": "", "root": "/"}
    answer = browser("administrator").post(reverse("admin:clients_client_add"), form)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    assert Client.objects.get().ipv4 == 2886769509
    without = browser("administrator").post(reverse("admin:clients_client_add"), {**form, "ipv4": ""})
    assert without.status_code == 200


def test_a_client_is_refused_by_the_rules_of_the_api(browser, db) -> None:
    form = {"hostname": "a b/c", "ipv4": "172.16.155.101", "ipv6": "", "root": "rel"}
    page = browser("administrator").post(reverse("admin:clients_client_add"), form).content.decode()
    assert "neither blanks nor slashes" in page
    assert "Must be an absolute path" in page
    assert not Client.objects.exists()


def act(client, page, action, row):
    form = {"action": action, "_selected_action": [row.pk]}
    return client.post(reverse(f"admin:{page}_changelist"), form, follow=True).content.decode()


def test_actions_issue_a_token_once_and_revoke_the_agent(browser, rows) -> None:
    client, row = browser("administrator"), rows["clients_client"]
    agent_token(row)
    page = act(client, "clients_client", "issue_join_token", row)
    assert "backupcenter-agent join" in page
    assert "backupcenter-agent join" not in client.get(reverse("admin:clients_client_changelist")).content.decode()
    act(client, "clients_client", "revoke_agent", row)
    assert not row.logins.exists()


def test_a_viewer_has_no_actions(browser, rows) -> None:
    act(browser("viewer"), "clients_client", "revoke_agent", rows["clients_client"])
    act(browser("viewer"), "clients_client", "issue_join_token", rows["clients_client"])
    assert JoinToken.objects.count() == 1


def test_an_endpoint_that_does_not_answer_is_said(browser, rows) -> None:
    endpoint = rows["storage_endpoint"]
    Endpoint.objects.update(address="127.0.0.1:1", https=False)
    page = act(browser("administrator"), "storage_endpoint", "verify", endpoint)
    assert "does not answer" in page


def test_a_store_with_tenants_cannot_become_a_directory(browser, rows, tmp_path) -> None:
    endpoint = rows["storage_endpoint"]
    form = {"address": str(tmp_path), "https": "", "type": Endpoint.Type.DIRECTORY, "display_name": ""}
    page = browser("administrator").post(reverse("admin:storage_endpoint_change", args=[endpoint.pk]), form)
    assert "while tenants use it" in page.content.decode()
    endpoint.refresh_from_db()
    assert not endpoint.is_directory


def test_an_account_is_made_with_the_password_as_typed(browser, db) -> None:
    form = {"username": "typed", "role": "viewer", "password1": "as typed 123", "password2": "as typed 123"}
    form["usable_password"] = "true"
    answer = browser("administrator").post(reverse("admin:accounts_user_add"), form)
    assert answer.status_code == 302, answer.content.decode()[:3000]
    user = User.objects.get(username="typed")
    assert user.check_password("as typed 123")
    assert (user.role, user.is_superuser) == ("viewer", False)


def type_login(username: str, password: str):
    return Browser().post(reverse("admin:login"), {"username": username, "password": password})


def test_repeated_failures_to_log_in_have_to_wait_in_the_console_as_in_the_api(account, api, settings) -> None:
    settings.LOGIN_ATTEMPTS = 2
    account("viewer")
    for _attempt in range(2):
        assert "Too many attempts" not in type_login("viewer", "wrong").content.decode()
    refused = type_login("viewer", PASSWORD)
    assert refused.status_code == 200
    assert "Too many attempts" in refused.content.decode()
    assert api(None).post("/login", {"username": "viewer", "password": "0" * 32}, format="json").status_code == 429


def test_logging_in_to_the_console_takes_its_count_back(account, settings) -> None:
    settings.LOGIN_ATTEMPTS = 1
    account("viewer")
    assert [type_login("viewer", PASSWORD).status_code for _attempt in range(8)] == [302] * 8


def new_passwords(**fields: str) -> dict[str, str]:
    typed = "another long word"
    return dict.fromkeys(("password1", "password2", "new_password1", "new_password2"), typed) | fields


@pytest.mark.parametrize("usable", [{"usable_password": "true"}, {"usable_password": "false", "unset-password": ""}])
def test_a_password_that_an_administrator_sets_ends_the_tokens_of_the_account(browser, account, usable) -> None:
    user = account("operator")
    AuthToken.objects.create(user)
    path = reverse("admin:auth_user_password_change", args=[user.pk])
    assert browser("administrator").post(path, new_passwords(**usable)).status_code == 302
    assert not user.auth_token_set.exists()


def test_a_password_that_one_changes_oneself_ends_ones_tokens_and_not_the_session(browser, account) -> None:
    client = browser("viewer")
    AuthToken.objects.create(account("viewer"))
    answer = client.post(reverse("admin:password_change"), new_passwords(old_password=PASSWORD))
    assert answer.status_code == 302, answer.content.decode()[:3000]
    assert not AuthToken.objects.exists()
    assert client.get(reverse("admin:index")).status_code == 200


def test_tokens_are_listed_and_ended_without_their_digest(browser, account) -> None:
    token, _secret = AuthToken.objects.create(account("viewer"))
    client = browser("administrator")
    listing = reverse("admin:accounts_token_changelist")
    page = client.get(listing).content.decode()
    assert "viewer" in page
    assert f"/{token.digest}/" not in page
    form = {"action": "delete_selected", "_selected_action": [token.digest]}
    shown = re.sub(r"<[^>]*>", "", client.post(listing, form).content.decode())
    assert f"viewer ({token.created:%Y-%m-%d %H:%M})" in shown
    assert token.digest not in shown
    client.post(listing, {**form, "post": "yes"})
    assert not AuthToken.objects.exists()


def test_the_last_administrator_stays_in_the_console_too(browser, account) -> None:
    client = browser("administrator")
    user = account("administrator")
    client.post(reverse("admin:accounts_user_delete", args=[user.pk]), {"post": "yes", "typed": "administrator"})
    assert User.objects.filter(pk=user.pk).exists()
    path = reverse("admin:accounts_user_change", args=[user.pk])
    client.post(path, {"username": "administrator", "role": "viewer", "is_active": "on"})
    client.post(path, {"username": "administrator", "role": "administrator"})
    many = {"action": "delete_selected", "_selected_action": [user.pk], "post": "yes", "typed": "1"}
    client.post(reverse("admin:accounts_user_changelist"), many)
    user.refresh_from_db()
    assert user.is_administrator
