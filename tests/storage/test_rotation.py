"""The key that encrypts secrets can be rotated: a new one in front, everything written anew, the old one dropped."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection

from storage.models import Endpoint, Repository, Tenant


@pytest.fixture
def secrets(db, settings) -> None:
    settings.ENCRYPTION_KEYS = ["old"]
    endpoint = Endpoint.objects.create(address="host:1")
    empty = Tenant.objects.create(endpoint=endpoint, username="without")
    Repository.objects.create(tenant=empty, bucket="bucket", password="password")
    for number in range(3):
        Tenant.objects.create(endpoint=endpoint, username=f"user{number}", secret_key=f"secret{number}")


def raw() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret_key FROM storage_tenant UNION ALL SELECT password FROM storage_repository")
        return [row[0] for row in cursor.fetchall()]


def test_after_a_rotation_the_old_key_is_not_needed(secrets, settings, capsys, monkeypatch) -> None:
    monkeypatch.setattr("storage.rotation.BATCH_ROWS", 2)
    settings.ENCRYPTION_KEYS = ["new", "old"]
    call_command("rotatesecrets")
    assert "storage.Tenant.secret_key: 3" in capsys.readouterr().out
    settings.ENCRYPTION_KEYS = ["new"]
    assert sorted(tenant.secret_key for tenant in Tenant.objects.all()) == ["", "secret0", "secret1", "secret2"]
    assert Repository.objects.get().password == "password"


def test_it_can_be_run_again(secrets, settings) -> None:
    settings.ENCRYPTION_KEYS = ["new", "old"]
    call_command("rotatesecrets")
    before = raw()
    call_command("rotatesecrets")
    assert raw() != before
    assert sorted(tenant.secret_key for tenant in Tenant.objects.all())[1] == "secret0"


def test_a_missing_key_is_said_and_changes_nothing(secrets, settings) -> None:
    before = raw()
    settings.ENCRYPTION_KEYS = ["other"]
    with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEYS"):
        call_command("rotatesecrets")
    assert raw() == before


def test_no_secret_is_readable_in_the_database(secrets) -> None:
    assert not any(text.startswith(("secret", "password")) for text in raw())
