"""Buckets of repositories: how long what is written in one stays, and what the agents' keys may do there.

A stolen host has its agent's keys. With keys of their own, agents may read and write, and delete locks; with Object Lock, not even
the tenant's own keys remove what was written within so many days: deleting or overwriting hides a version, and `storage.history`
brings it back. The policy is S3's bucket policy as Ceph takes it; other stores tie policies to their users (docs/stores.md).
"""

import json
from typing import Any

import boto3
from botocore.exceptions import ClientError
from django.utils.translation import gettext as _

from engine.backends.patience import Patience
from engine.backends.s3 import failing_store, s3_client
from engine.errors import StoreError
from storage.admission import trust_in
from storage.models import Endpoint, Repository, Tenant

POLICY_VERSION = "2012-10-17"
# Ours are told by this from what others have put into the policy of the bucket.
STATEMENT_PREFIX = "BackupCenter"
LIFECYCLE_RULE = "backupcenter"
PATIENCE = Patience(connect_timeout_s=5, read_timeout_s=30)


def bucket_client(tenant: Tenant) -> Any:
    """Return boto3's client with the tenant's own keys, which the server alone holds once agents have theirs."""
    endpoint = tenant.endpoint
    return s3_client(boto3.Session(), endpoint.url, tenant.credentials, trust_in(endpoint), PATIENCE)


def prepare_bucket(tenant: Tenant, bucket: str) -> None:
    """Make the bucket if it is not there, locked if the tenant wants it, and tell it what agents may do.

    Raises StoreError; also for a bucket without the Object Lock that the tenant wants, which only a new one can be given.
    """
    if tenant.endpoint.is_directory or not (tenant.lock_days or tenant.agent_access_key):
        return
    client = bucket_client(tenant)
    try:
        with failing_store(tenant.endpoint.url, bucket):
            _make(client, bucket, is_locked=bool(tenant.lock_days))
            if tenant.lock_days:
                _lock(client, bucket, tenant.lock_days)
            if has_bucket_policies(tenant):
                _put_policy(client, bucket, tenant)
    finally:
        client.close()


def restrict_agents(tenant: Tenant) -> None:
    """Tell all buckets of the tenant's repositories what the agents' keys may do there. Raises StoreError."""
    if not has_bucket_policies(tenant):
        return
    client = bucket_client(tenant)
    buckets = Repository.objects.filter(tenant=tenant).exclude(repository_id="").values_list("bucket", flat=True)
    try:
        for bucket in sorted(set(buckets)):
            with failing_store(tenant.endpoint.url, bucket):
                _put_policy(client, bucket, tenant)
    finally:
        client.close()


def has_bucket_policies(tenant: Tenant) -> bool:
    """Whether the rights of the agents' keys are the server's to set: Ceph names users in the policies of buckets."""
    return tenant.endpoint.type == Endpoint.Type.CEPH and bool(tenant.agent_username)


def agents_statements(bucket: str, agents: str, owner: str) -> list[dict[str, Any]]:
    """Return the statements of a bucket's policy. `agents` and `owner`: names of Ceph users, `tenant$name` or `name`."""
    place, objects = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"
    locks = [f"arn:aws:s3:::{bucket}/locks/*", f"arn:aws:s3:::{bucket}/*/locks/*"]
    # An object is its writer's, so that the owner of the bucket would be refused what agents wrote.
    written_again = ["s3:PutObjectAcl", "s3:PutObjectVersionAcl", "s3:PutObjectRetention", "s3:PutObjectLegalHold"]
    return [
        _statement("List", "Allow", agents, ["s3:ListBucket"], [place]),
        _statement("Append", "Allow", agents, ["s3:GetObject", "s3:PutObject"], [objects]),
        _statement("Unlock", "Allow", agents, ["s3:DeleteObject"], locks),
        _statement("Keep", "Deny", agents, written_again, [objects]),
        _statement("Own", "Allow", owner, ["s3:*"], [place, objects]),
    ]


def _statement(name: str, effect: str, user: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    tenant, _, uid = user.rpartition("$")
    principal = {"AWS": [f"arn:aws:iam::{tenant}:user/{uid}"]}
    return {
        "Sid": STATEMENT_PREFIX + name, "Effect": effect, "Principal": principal, "Action": actions, "Resource": resources
    }  # fmt: skip


def _make(client: Any, bucket: str, *, is_locked: bool) -> None:
    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        if _code(error) != "NoSuchBucket":
            raise
        client.create_bucket(Bucket=bucket, **({"ObjectLockEnabledForBucket": True} if is_locked else {}))


def _lock(client: Any, bucket: str, days: int) -> None:
    """Have what is written stay for so many days, or for longer if the bucket says so already."""
    try:
        present = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except ClientError as error:
        if _code(error) != "ObjectLockConfigurationNotFoundError":
            raise
        message = _("The bucket %(bucket)s has no Object Lock, which only a new bucket can be given.")
        raise StoreError(message % {"bucket": bucket}) from error
    rule = present.get("Rule", {}).get("DefaultRetention", {})
    if rule.get("Mode") != "COMPLIANCE" or rule.get("Days", 0) + 365 * rule.get("Years", 0) < days:
        retention = {"Mode": "COMPLIANCE", "Days": days}
        configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    _expire(client, bucket, days)


def _expire(client: Any, bucket: str, days: int) -> None:
    """Have what was deleted or overwritten leave once nobody can want it back; the rules of others stay."""
    try:
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    except ClientError as error:
        if _code(error) != "NoSuchLifecycleConfiguration":
            raise
        rules = []
    expiry = {"NoncurrentVersionExpiration": {"NoncurrentDays": days}, "Expiration": {"ExpiredObjectDeleteMarker": True}}
    rule = {"ID": LIFECYCLE_RULE, "Status": "Enabled", "Filter": {"Prefix": ""}, **expiry}
    others = [one for one in rules if one.get("ID") != LIFECYCLE_RULE]
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*others, rule]})


def _put_policy(client: Any, bucket: str, tenant: Tenant) -> None:
    """Replace what is ours of the bucket's policy; what others have put there stays."""
    try:
        policy = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        if _code(error) != "NoSuchBucketPolicy":
            raise
        policy = {}
    foreign = [one for one in policy.get("Statement", []) if not str(one.get("Sid", "")).startswith(STATEMENT_PREFIX)]
    ours = agents_statements(bucket, tenant.agent_username, tenant.username)
    statements = {"Version": POLICY_VERSION, **policy, "Statement": [*foreign, *ours]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(statements))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))
