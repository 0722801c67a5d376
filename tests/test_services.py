"""The services that tests rely on are what they claim to be."""

import boto3
import psycopg
import pytest
import redis


@pytest.mark.ceph
def test_a_tenant_of_the_gateway_can_write_and_read(ceph_endpoint) -> None:
    access_key, secret_key = ceph_endpoint.make_user("service-check", quota=1 << 30)
    s3 = boto3.client(
        "s3",
        endpoint_url=ceph_endpoint.url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
    s3.create_bucket(Bucket="service-check")
    s3.put_object(Bucket="service-check", Key="a", Body=b"1")
    assert s3.get_object(Bucket="service-check", Key="a")["Body"].read() == b"1"


@pytest.mark.postgres
def test_postgresql_answers(postgres_url) -> None:
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_redis_answers(redis_url) -> None:
    assert redis.Redis.from_url(redis_url).ping()
