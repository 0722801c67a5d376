"""What a stolen host can do in a bucket of a real gateway: read, append, and no harm that is not undone."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import boto3
import pytest
from botocore.exceptions import ClientError
from django.core.management import CommandError, call_command

from engine.backends import open_store
from engine.commands.backup import backup
from engine.commands.check import check
from engine.commands.forget import forget
from engine.commands.prune import PruneOptions, prune
from engine.commands.restore import restore
from engine.errors import StoreError
from engine.repository import Repository as EngineRepository
from storage.models import Endpoint, Tenant
from storage.repositories import ensure_repository, repository_store
from storage.tenants import add_tenant, change_tenant

pytestmark = [pytest.mark.ceph, pytest.mark.django_db(transaction=True)]
_numbers = itertools.count()


@pytest.fixture
def endpoint(ceph_endpoint) -> Endpoint:
    return Endpoint.objects.create(address=ceph_endpoint.address, https=False, type=0)


@pytest.fixture
def tenant(endpoint, ceph_endpoint) -> Tenant:
    """A tenant whose agents have keys of another user."""
    number = next(_numbers)
    tenant = add_tenant(endpoint, *ceph_endpoint.make_user(f"buckets-owner{number}"))
    access_key, secret_key = ceph_endpoint.make_user(f"buckets-agents{number}")
    change_tenant(tenant, {"agent_access_key": access_key, "agent_secret_key": secret_key})
    return tenant


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    root.mkdir()
    (root / "file").write_bytes(b"content" * 1000)
    return root


def opened_by_agent(row):
    return EngineRepository.open(open_store(row.location, credentials=row.tenant.agent_credentials), row.password)


def client_of(row, credentials):
    return boto3.client(
        "s3", endpoint_url=row.tenant.endpoint.url, region_name="us-east-1",
        aws_access_key_id=credentials.access_key, aws_secret_access_key=credentials.secret_key,
    )  # fmt: skip


def keys_of(client, row):
    return [entry["Key"] for entry in client.list_objects_v2(Bucket=row.bucket)["Contents"]]


def test_agents_back_up_and_restore_with_keys_that_cannot_delete_backups(tenant, source, tmp_path):
    row = ensure_repository(tenant, f"agents-{tenant.pk}", "host")
    saved = backup(opened_by_agent(row), [source], host="h")
    assert restore(opened_by_agent(row), saved.snapshot_id, str(tmp_path / "back")).errors == 0
    assert (tmp_path / f"back{source}" / "file").read_bytes() == b"content" * 1000
    agent = client_of(row, tenant.agent_credentials)
    keys = keys_of(agent, row)
    # Nothing is left of the locks of either run.
    assert not [key for key in keys if "/locks/" in key]
    for key in keys:
        with pytest.raises(ClientError, match="AccessDenied"):
            agent.delete_object(Bucket=row.bucket, Key=key)
    for act in (agent.delete_bucket, agent.delete_bucket_policy):
        with pytest.raises(ClientError, match="AccessDenied"):
            act(Bucket=row.bucket)
    assert keys_of(agent, row) == keys


def test_the_server_forgets_and_prunes_what_agents_wrote(tenant, source):
    row = ensure_repository(tenant, f"pruned-{tenant.pk}", "host")
    first = backup(opened_by_agent(row), [source], host="h")
    (source / "file").write_bytes(b"other" * 1000)
    backup(opened_by_agent(row), [source], host="h")
    server = EngineRepository.open(repository_store(row), row.password)
    forget(server, [first.snapshot_id])
    prune(server, PruneOptions())
    assert check(EngineRepository.open(repository_store(row), row.password), read_data=True).problems == []


def test_a_tenant_that_gives_its_agents_keys_later_restricts_the_buckets_there_are(endpoint, ceph_endpoint):
    tenant = add_tenant(endpoint, *ceph_endpoint.make_user("buckets-late"))
    row = ensure_repository(tenant, "late-bucket")
    access_key, secret_key = ceph_endpoint.make_user("buckets-late-agents")
    change_tenant(tenant, {"agent_access_key": access_key, "agent_secret_key": secret_key})
    agent = client_of(row, tenant.agent_credentials)
    with pytest.raises(ClientError, match="AccessDenied"):
        agent.delete_object(Bucket=row.bucket, Key="config")


def test_keys_of_the_tenants_own_user_are_none_for_agents(endpoint, ceph_endpoint):
    keys = ceph_endpoint.make_user("buckets-same")
    tenant = add_tenant(endpoint, *keys)
    with pytest.raises(StoreError, match="another user"):
        change_tenant(tenant, {"agent_access_key": keys[0], "agent_secret_key": keys[1]})
    tenant.refresh_from_db()
    assert tenant.agent_credentials == tenant.credentials


def test_what_a_thief_of_all_keys_deletes_and_overwrites_comes_back(tenant, source, tmp_path):
    change_tenant(tenant, {"lock_days": 1})
    row = ensure_repository(tenant, f"locked-{tenant.pk}", "host")
    saved = backup(opened_by_agent(row), [source], host="h")
    thief = client_of(row, tenant.credentials)
    versions = thief.list_object_versions(Bucket=row.bucket)["Versions"]
    before = max(version["LastModified"] for version in versions)
    for version in versions:
        if "/locks/" not in version["Key"]:
            with pytest.raises(ClientError, match="AccessDenied"):
                thief.delete_object(Bucket=row.bucket, Key=version["Key"], VersionId=version["VersionId"])
    keys = keys_of(thief, row)
    thief.put_object(Bucket=row.bucket, Key=keys[0], Body=b"evil")
    for key in keys[1:]:
        thief.delete_object(Bucket=row.bucket, Key=key)

    def revert(*options):
        out = StringIO()
        call_command("revertrepository", row.location, "--to", before.isoformat(), *options, stdout=out)
        return out.getvalue()

    assert f"{len(keys)} files would be put back" in revert("--dry-run")
    assert f"overwritten: {keys[0].removeprefix('host/')}" in revert()
    assert keys_of(thief, row) == keys
    opened = opened_by_agent(row)
    assert check(opened, read_data=True).problems == []
    assert restore(opened, saved.snapshot_id, str(tmp_path / "back")).errors == 0
    assert "0 files put back" in revert()


def test_a_bucket_that_has_no_lock_is_not_taken_for_one_that_has(tenant):
    client = client_of(ensure_repository(tenant, f"plain-{tenant.pk}"), tenant.credentials)
    change_tenant(tenant, {"lock_days": 7})
    with pytest.raises(StoreError, match="no Object Lock"):
        ensure_repository(tenant, f"plain-{tenant.pk}", "another")
    client.create_bucket(Bucket=f"unversioned-{tenant.pk}")
    moment = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    location = f"s3:{tenant.endpoint.url}/plain-{tenant.pk}"
    with pytest.raises(CommandError, match="keeps no versions"):
        call_command("revertrepository", location, "--to", moment)


def test_the_policy_leaves_what_others_have_put_into_it(tenant):
    row = ensure_repository(tenant, f"shared-{tenant.pk}")
    client = client_of(row, tenant.credentials)
    policy = json.loads(client.get_bucket_policy(Bucket=row.bucket)["Policy"])
    theirs = {
        "Sid": "Auditors", "Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/auditor"]},
        "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{row.bucket}/*"],
    }  # fmt: skip
    client.put_bucket_policy(Bucket=row.bucket, Policy=json.dumps({**policy, "Statement": [theirs, *policy["Statement"]]}))
    ensure_repository(tenant, row.bucket, "second")
    names = [one["Sid"] for one in json.loads(client.get_bucket_policy(Bucket=row.bucket)["Policy"])["Statement"]]
    assert names.count("Auditors") == 1
    assert len(names) == len(policy["Statement"]) + 1


def test_a_longer_lock_and_the_rules_of_others_stay(tenant):
    bucket = f"theirs-{tenant.pk}"
    client = boto3.client(
        "s3", endpoint_url=tenant.endpoint.url, region_name="us-east-1",
        aws_access_key_id=tenant.access_key, aws_secret_access_key=tenant.secret_key,
    )  # fmt: skip
    client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}}
    client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    rule = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 90}}
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [rule]})
    change_tenant(tenant, {"lock_days": 7})
    for prefix in ("one", "two"):
        ensure_repository(tenant, bucket, prefix)
    assert client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == lock
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert sorted(one["ID"] for one in rules) == ["backupcenter", "theirs"]
