"""Repositories: made once at a place, and opened once in a process."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.utils import timezone

from engine.backends import open_store
from engine.backends.patience import Patience
from engine.errors import RepositoryExists, StoreError, WrongPassword
from engine.repository import Repository as EngineRepository
from storage.models import Endpoint, Repository, Tenant
from storage.repositories import ensure_repository, open_repository, open_with, repository_store


@pytest.fixture
def tenant(db, tmp_path) -> Tenant:
    endpoint = Endpoint.objects.create(address=str(tmp_path), type=2)
    return Tenant.objects.create(endpoint=endpoint, username="owner")


def test_it_is_made_where_it_is_asked_for(tenant, tmp_path) -> None:
    row = ensure_repository(tenant, "bucket", "client1")
    assert row.location == f"{tmp_path}/bucket/client1"
    opened = EngineRepository.open(open_store(row.location), row.password)
    assert opened.config.id == row.repository_id
    assert opened.config.version == 2


def test_the_same_place_is_the_same_repository(tenant) -> None:
    first = ensure_repository(tenant, "bucket", "client1")
    assert ensure_repository(tenant, "bucket", "client1") == first
    assert ensure_repository(tenant, "bucket", "client2") != first
    assert Repository.objects.count() == 2


def test_one_that_is_not_ours_is_refused_and_left_alone(tenant, tmp_path) -> None:
    theirs = EngineRepository.init(open_store(str(tmp_path / "bucket")), "theirs")
    with pytest.raises(RepositoryExists):
        ensure_repository(tenant, "bucket")
    assert not Repository.objects.exists()
    assert EngineRepository.open(open_store(str(tmp_path / "bucket")), "theirs").config.id == theirs.config.id


def test_one_whose_maker_died_is_finished(tenant) -> None:
    row = ensure_repository(tenant, "bucket")
    made = row.repository_id
    long_ago = timezone.now() - timedelta(minutes=5)
    Repository.objects.update(repository_id="", created_at=long_ago)
    assert ensure_repository(tenant, "bucket").repository_id == made


def test_one_whose_maker_died_before_it_began_is_made(tenant) -> None:
    row = Repository.objects.create(tenant=tenant, bucket="bucket", password="secret")
    Repository.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    assert ensure_repository(tenant, "bucket").repository_id
    row.refresh_from_db()
    assert EngineRepository.open(open_store(row.location), "secret").config.id == row.repository_id


@pytest.mark.parametrize("bucket", ["", ".", "..", "a/b", "a\0", "a\nb", "a?b"])
def test_a_bucket_leads_nowhere_else(tenant, bucket) -> None:
    with pytest.raises(StoreError):
        ensure_repository(tenant, bucket)


@pytest.mark.parametrize("prefix", ["..", "a/../b", "/a", "a//b", "a\0"])
def test_a_prefix_leads_nowhere_else(tenant, prefix) -> None:
    with pytest.raises(StoreError):
        ensure_repository(tenant, "bucket", prefix)


@pytest.mark.parametrize("bucket", ["a", "a b", "-a", "ä" * 5, "a" * 256, "a/b", "a?b"])
def test_a_bucket_of_a_store_has_a_name_that_stores_take(db, bucket) -> None:
    endpoint = Endpoint.objects.create(address="host:1")
    with pytest.raises(StoreError):
        ensure_repository(Tenant.objects.create(endpoint=endpoint, username="user"), bucket)


def test_a_store_that_does_not_answer_leaves_nothing_behind(db, closed_port, monkeypatch) -> None:
    monkeypatch.setattr("storage.repositories.PATIENCE", Patience(first_answer_s=0))
    endpoint = Endpoint.objects.create(address=f"127.0.0.1:{closed_port}", https=False)
    tenant = Tenant.objects.create(endpoint=endpoint, username="user", access_key="a", secret_key="s")
    with pytest.raises(StoreError):
        ensure_repository(tenant, "bucket")
    assert not Repository.objects.exists()


def test_threads_share_one_opened_repository(tenant, monkeypatch) -> None:
    row = ensure_repository(tenant, "bucket")
    assert row.location
    opened = []
    real = EngineRepository.open

    def count(*arguments):
        opened.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(EngineRepository, "open", count)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _number: open_repository(row), range(8)))
    assert len({id(repository) for repository in found}) == 1
    assert len(opened) == 1


def test_a_password_is_derived_once_in_a_process(tenant, monkeypatch) -> None:
    row = ensure_repository(tenant, "bucket")
    open_with(repository_store(row), row)
    monkeypatch.setattr(hashlib, "scrypt", lambda *arguments, **more: pytest.fail("it was derived again"))
    open_with(repository_store(row), row)


def test_one_that_changed_is_opened_anew(tenant) -> None:
    row = ensure_repository(tenant, "bucket")
    open_repository(row)
    row.password = "another"
    with pytest.raises(WrongPassword):
        open_repository(row)


def test_only_so_many_stay_open(tenant, monkeypatch) -> None:
    from storage import repositories

    few = repositories._OpenRepositories(2)
    rows = [ensure_repository(tenant, f"bucket{number}") for number in range(3)]
    first = few.get(rows[0])
    few.get(rows[1])
    assert few.get(rows[0]) is first
    few.get(rows[2])
    few.get(rows[1])
    assert few.get(rows[0]) is not first


@pytest.mark.ceph
def test_its_bucket_is_made_in_a_real_store(db, ceph_endpoint) -> None:
    access_key, secret_key = ceph_endpoint.make_user("storage-repositories")
    endpoint = Endpoint.objects.create(address=ceph_endpoint.address, https=False)
    tenant = Tenant.objects.create(endpoint=endpoint, username="storage-repositories", access_key=access_key, secret_key=secret_key)
    row = ensure_repository(tenant, "storage-repositories", "client1")
    assert row.location == f"s3:{ceph_endpoint.url}/storage-repositories/client1"
    assert open_repository(row).config.id == row.repository_id


def test_one_whose_maker_died_before_it_was_whole_is_finished(tenant, tmp_path) -> None:
    row = ensure_repository(tenant, "bucket")
    (tmp_path / "bucket" / "config").unlink()
    Repository.objects.update(repository_id="", created_at=timezone.now() - timedelta(minutes=5))
    finished = ensure_repository(tenant, "bucket")
    assert (finished.pk, finished.password) == (row.pk, row.password)
    assert EngineRepository.open(open_store(row.location), row.password).config.id == finished.repository_id
