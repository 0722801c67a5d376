"""People are told of accounts that come and go, and once of a store that refuses a tenant and once that it is well again."""

from accounts.models import password_digest
from records.models import Event
from storage.tasks import refresh_all_tenants
from tests.factories import make_tenant


def told(topic: Event.Topic) -> list[tuple[int, str]]:
    return list(Event.objects.filter(topic=topic).order_by("pk").values_list("level", "title"))


def test_an_account_that_comes_or_goes_is_told(api) -> None:
    client = api("administrator")
    Event.objects.all().delete()
    client.post("/api/account", {"username": "user", "password": password_digest("x")}, format="json")
    client.put("/api/account/user", {"role": "operator"}, format="json")
    client.delete("/api/account/user")
    assert told(Event.Topic.ACCOUNT) == [
        (Event.Level.INFO, "Account user was created"),
        (Event.Level.WARNING, "Account user was deleted"),
    ]


def test_a_tenant_that_its_store_refuses_is_told_once_and_once_when_it_is_well(db, tmp_path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    make_tenant(store)
    refresh_all_tenants()
    assert told(Event.Topic.STORAGE) == []
    store.rename(tmp_path / "away")
    refresh_all_tenants()
    refresh_all_tenants()
    (tmp_path / "away").rename(store)
    refresh_all_tenants()
    refresh_all_tenants()
    assert told(Event.Topic.STORAGE) == [
        (Event.Level.ERROR, "Tenant backup @ directory cannot be read from its store"),
        (Event.Level.SUCCESS, "Tenant backup @ directory can be read again"),
    ]
