"""The services that tests rely on are what they claim to be."""

import os
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
import psycopg
import pytest
import redis

from tests.services.ports import accepts, wait_until
from tests.services.sharing import shared

TOP = Path(__file__).resolve().parent.parent


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


def test_a_shared_service_runs_once_for_all_who_ask_and_ends_after_the_last(tmp_path) -> None:
    told = []

    @contextmanager
    def service():
        told.append("started")
        yield "address"
        told.append("ended")

    first, second = ExitStack(), ExitStack()
    addresses = [each.enter_context(shared(tmp_path / "service", service)) for each in (first, second)]
    ending = threading.Thread(target=first.close)
    ending.start()
    with shared(tmp_path / "service", service) as late:
        assert [*addresses, late] == ["address"] * 3
    assert told == ["started"]
    second.close()
    ending.join()
    assert told == ["started", "ended"]
    with shared(tmp_path / "service", service):
        assert told == ["started", "ended", "started"]


def test_a_service_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path) -> None:
    code = "from tests.services.redis import redis_server\nwith redis_server() as url: print(url, flush=True); input()"
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=TOP, env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes) as session:
        port = int(session.stdout.readline().rpartition(":")[2].partition("/")[0])
        assert accepts(port)
        session.kill()
    wait_until(lambda: not accepts(port), "Redis to end")
