"""Each agent's login to the broker opens the client's own queue, and nothing else of a real Redis."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.app.trace import reset_worker_optimizations, setup_worker_optimizations
from django.core.cache import cache
from django.core.checks import run_checks
from django.test import Client as Browser
from django.urls import reverse
from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from agent.app import RUN_JOB, make_app, worker_options
from agent.center import Center
from agent.config import AgentConfig
from agent.doctor import check_broker
from agent.login import Login
from backupcenter.celery import app
from clients import broker
from clients.broker import Sharing, guard
from clients.leaving import revoke
from clients.logins import IssuedLogin, find_login, issue_login
from clients.models import Client, PendingCutOff
from records.models import Event
from tests.factories import make_client
from tests.services.ports import wait_until
from tests.services.redis import redis_server

PASSWORD = "the-servers-own"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A Redis with a password, like the quick start's."""
    with redis_server(password=PASSWORD) as url:
        yield url


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test has learned of its Redis is nothing to the next."""
    monkeypatch.setattr(broker, "_known", broker._Known())


@pytest.fixture
def redis(server_url: str, settings: Any) -> Iterator[Redis]:
    """The server's own connection to an empty Redis, which is the installation's broker."""
    settings.CELERY_BROKER_URL = settings.AGENT_BROKER_URL = server_url
    with Redis.from_url(server_url) as connection:
        connection.flushall()
        for user in users(connection):
            connection.acl_deluser(user)
        connection.execute_command("ACL", "LOG", "RESET")
        yield connection


def users(redis: Redis) -> set[str]:
    return {user for user in map(str, redis.acl_users()) if user != "default"}


def connections(redis: Redis) -> set[str]:
    return {client["user"] for client in redis.client_list()} - {"default"}


def as_agent(login: IssuedLogin) -> Redis:
    return Redis.from_url(login.broker, protocol=2, driver_info=None)


@contextmanager
def worker(client: Client, login: IssuedLogin, state: Path) -> Iterator[Login]:
    """Run a real agent's Celery worker for the length of the block."""
    config = AgentConfig("http://127.0.0.1:1", client.pk, "here", client.queue, login.token, login.broker)
    held = Login(state, config)
    worker_app = make_app(config, state, held, Center(config.center, held))
    running = worker_app.WorkController(**worker_options(config))
    # As a worker's program does, whose application is the only one: else its threads look for the job in the server's.
    setup_worker_optimizations(worker_app)
    thread = threading.Thread(target=running.start)
    thread.start()
    try:
        yield held
    finally:
        running.stop()
        thread.join()
        reset_worker_optimizations(worker_app)
        app.set_current()
        app.set_default()


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs that agents were told of."""
    told: list[str] = []
    monkeypatch.setattr("agent.app.run_job", lambda center, state, job, attempt: told.append(job))
    return told


def offer(client: Client, job: str, url: str) -> None:
    """Put a job on the client's queue as the server does."""
    with app.connection_for_write(url) as connection:
        app.send_task(RUN_JOB, args=[{"job": job, "attempt": 1}], queue=client.queue, connection=connection)


def test_an_agents_worker_takes_its_jobs_also_after_a_restart_and_uses_no_other_command(
    redis: Redis, server_url: str, jobs: list[str], tmp_path: Path
) -> None:
    client = make_client()
    with worker(client, issue_login(client), tmp_path) as login:
        offer(client, "backup-1", server_url)
        wait_until(lambda: jobs == ["backup-1"], "the first job")
        # As a restart without its users, and the server that notices.
        redis.acl_deluser(client.queue)
        wait_until(lambda: login.is_refused, "the agent to be refused")
        guard()
        offer(client, "backup-2", server_url)
        wait_until(lambda: jobs == ["backup-1", "backup-2"], "the second job")
    assert {(entry["reason"], entry["object"]) for entry in redis.acl_log()} <= {("auth", "AUTH")}


def test_two_agents_share_nothing(redis: Redis) -> None:
    own, other = make_client(), make_client()
    issue_login(other)
    redis.lpush(other.queue, "job")
    redis.hset("unacked", "tag", "job")
    with as_agent(issue_login(own)) as agent:
        redis.lpush(own.queue, "mine")
        assert agent.brpop(own.queue, timeout=1) == (own.queue.encode(), b"mine")
        assert agent.ping()
        forbidden: list[tuple[str | int, ...]] = [
            ("BRPOP", other.queue, 1),
            ("BRPOP", own.queue, other.queue, 1),
            ("BRPOP", "control", 1),
            ("LRANGE", other.queue, 0, -1),
            ("LRANGE", own.queue, 0, -1),
            ("LPUSH", other.queue, "forged"),
            ("LPUSH", "control", "forged"),
            ("HGETALL", "unacked"),
            ("KEYS", "*"),
            ("SCAN", 0),
            ("PUBLISH", "events_channel", "forged"),
            ("SUBSCRIBE", "events_channel"),
            ("CONFIG", "GET", "requirepass"),
            ("ACL", "LIST"),
            ("ACL", "SETUSER", own.queue, "allkeys"),
            ("CLIENT", "LIST"),
            ("MONITOR",),
            ("FLUSHALL",),
            ("SHUTDOWN",),
            ("EVAL", "return 1", 0),
            ("INFO",),
            ("GET", ":1:cached"),
        ]
        for command in forbidden:
            with pytest.raises(NoPermissionError):
                agent.execute_command(*command)
    assert redis.lrange(other.queue, 0, -1) == [b"job"]


def test_redis_and_the_database_hold_hashes_and_no_password(redis: Redis) -> None:
    client = make_client()
    login = issue_login(client)
    password = login.broker.split(":")[2].partition("@")[0]
    row = client.logins.get()
    assert password not in f"{vars(row)} {redis.execute_command('ACL', 'LIST')} {login!r}"
    assert redis.acl_getuser(client.queue)["passwords"] == [row.broker_hash]


def test_the_next_password_is_good_beside_the_present_one_until_it_has_arrived(redis: Redis) -> None:
    client = make_client()
    first = issue_login(client)
    find_login(first.token)
    second = issue_login(client)
    for login in (first, second):
        with as_agent(login) as agent:
            assert agent.ping()
    find_login(second.token)
    with as_agent(second) as agent:
        assert agent.ping()
    with as_agent(first) as agent, pytest.raises(AuthenticationError):
        agent.ping()


@pytest.mark.parametrize("leave", [revoke, lambda client: client.delete()], ids=["revoked", "deleted"])
def test_a_client_that_goes_is_cut_off_with_its_connections(redis: Redis, leave: Callable[[Client], object]) -> None:
    client, stays = make_client(), make_client()
    login = issue_login(client)
    queue = client.queue
    with as_agent(login) as agent, as_agent(issue_login(stays)) as other:
        assert agent.ping()
        assert other.ping()
        leave(client)
        wait_until(lambda: connections(redis) == {stays.queue}, "the connection to end")
        assert other.ping()
    assert users(redis) == {stays.queue}
    with as_agent(login) as agent, pytest.raises(AuthenticationError):
        agent.brpop(queue, timeout=1)
    assert not PendingCutOff.objects.exists()


def test_a_client_that_goes_while_redis_is_away_is_cut_off_when_it_is_back(redis: Redis, server_url: str, settings: Any) -> None:
    client = make_client()
    issue_login(client)
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    revoke(client)
    assert Event.objects.filter(title=f"The login of client {client.pk} to the broker ends later").exists()
    guard()
    settings.CELERY_BROKER_URL = server_url
    assert users(redis) == {client.queue}
    guard()
    assert users(redis) == set()
    assert not PendingCutOff.objects.exists()


def test_who_joins_again_before_the_broker_heard_of_the_end_is_let_in(redis: Redis, server_url: str, settings: Any) -> None:
    client = make_client()
    old = issue_login(client)
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    revoke(client)
    new = issue_login(client)
    settings.CELERY_BROKER_URL = server_url
    guard()
    with as_agent(new) as agent:
        assert agent.ping()
    with as_agent(old) as agent, pytest.raises(AuthenticationError):
        agent.ping()


@pytest.mark.parametrize("batch", [1, 500])
def test_what_redis_has_lost_or_was_given_by_others_is_put_right(
    redis: Redis, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker, "BATCH", batch)
    lost, changed, whole, gone = (make_client() for _ in range(4))
    logins = {client.pk: issue_login(client) for client in (lost, changed, whole, gone)}
    redis.acl_deluser(lost.queue)
    redis.execute_command("ACL", "SETUSER", changed.queue, "allkeys", "+@all")
    gone.logins.all().delete()
    redis.execute_command("ACL", "SETUSER", "somebody", "on", ">else")
    assert broker.restore() == 3
    assert users(redis) == {"somebody", *(client.queue for client in (lost, changed, whole))}
    for client in (lost, changed, whole):
        with as_agent(logins[client.pk]) as agent:
            assert agent.ping()
            with pytest.raises(NoPermissionError):
                agent.get("x")
    assert broker.restore() == 0
    redis.acl_deluser("somebody")


def test_a_restart_of_redis_is_noticed_at_once_and_nothing_is_compared_in_between(settings: Any) -> None:
    client = make_client()
    with redis_server() as url:
        settings.CELERY_BROKER_URL = settings.AGENT_BROKER_URL = url
        issue_login(client)
        guard()
        with Redis.from_url(url) as redis:
            redis.acl_deluser(client.queue)
            guard()
            assert users(redis) == set()
    with redis_server(port=int(url.rpartition(":")[2].partition("/")[0])) as url, Redis.from_url(url) as redis:
        guard()
        assert users(redis) == {client.queue}


def test_an_expired_login_opens_nothing_any_more(redis: Redis, settings: Any) -> None:
    settings.AGENT_LOGIN_LIFETIME_S = -1
    client = make_client()
    login = issue_login(client)
    assert find_login(login.token) is None
    with as_agent(login) as agent, pytest.raises(AuthenticationError):
        agent.ping()


@pytest.mark.parametrize(
    ("rename", "agents", "expected"),
    [
        (["--rename-command", "ACL", ""], "", Sharing.NO_RIGHT),
        ([], "amqp://agents@rabbit//", Sharing.NO_REDIS),
    ],
)
def test_a_broker_that_keeps_no_users_is_said_loudly_and_agents_share_its_login(
    settings: Any, rename: list[str], agents: str, expected: Sharing, account: Any, client: Browser
) -> None:
    with redis_server(*rename) as url:
        settings.CELERY_BROKER_URL, settings.AGENT_BROKER_URL = url, agents or url
        guard()
        guard()
        assert cache.get(broker.SHARING) == expected.value
        (event,) = Event.objects.filter(title="All agents share one login to the broker")
        assert (event.level, str(expected.label) in event.message) == (Event.Level.ERROR, True)
        (warning,) = [said for said in run_checks(include_deployment_checks=True) if said.id == "clients.W001"]
        assert str(expected.label) in warning.msg
        client.force_login(account("administrator"))
        assert event.title in client.get(reverse("admin:index")).content.decode()
        row = make_client()
        assert issue_login(row).broker == settings.AGENT_BROKER_URL
        assert row.logins.get().broker_hash == ""
        # What cannot be ended there is not waited for, but said.
        revoke(row)
        assert not PendingCutOff.objects.exists()
        assert "change that password" in Event.objects.get(title=f"{row} was cut off").message


def test_once_redis_keeps_users_that_is_said_too(redis: Redis) -> None:
    cache.set(broker.SHARING, Sharing.NO_RIGHT.value, None)
    guard()
    guard()
    assert Event.objects.filter(title="Each agent has a login of its own to the broker").count() == 1
    assert not [said for said in run_checks(include_deployment_checks=True) if said.id == "clients.W001"]


def test_the_doctor_gets_on_with_an_agents_own_login(redis: Redis) -> None:
    assert check_broker(issue_login(make_client()).broker).status == "ok"
    assert redis.acl_log() == []


def test_a_job_goes_to_the_list_that_the_agent_reads(redis: Redis, server_url: str) -> None:
    client = make_client()
    offer(client, "backup-1", server_url)
    assert redis.llen(client.queue) == 1
