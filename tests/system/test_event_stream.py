"""`GET /api/event` of a real web process with a real Redis and, where there is one, PostgreSQL."""

import asyncio
import http.client
from collections.abc import Iterator
from itertools import islice

import psycopg
import pytest
import requests

from tests.services.postgres import postgres_programs, postgres_server
from tests.system.listening import Emitter, Listener, make_token
from tests.system.processes import Installation, installation

WEB = "tests.system.impatient:application"


@pytest.fixture(scope="module")
def center() -> Iterator[Installation]:
    with installation() as center:
        center.redis()
        center.web(WEB)
        yield center


@pytest.fixture(scope="module")
def token(center) -> str:
    return make_token(center)


@pytest.fixture(scope="module")
def emitter(center) -> Emitter:
    return Emitter(center)


def get(center, *, method="GET", path="/api/event", **arguments) -> requests.Response:
    return requests.request(method, center.url + path, stream=True, timeout=20, **arguments)


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "token"])
def test_a_token_in_the_header_opens_the_stream(center, token, scheme):
    with get(center, headers={"Authorization": f"{scheme} {token}"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert "event: stream-open" in list(islice(answer.iter_lines(decode_unicode=True), 4))


@pytest.mark.parametrize("path", ["/api/event", "/api/event/"])
def test_a_token_in_the_address_opens_the_stream_as_an_eventsource_needs(center, token, path):
    with get(center, path=path, params={"token": token}) as answer:
        assert answer.status_code == 200


@pytest.mark.parametrize("name", ["token", "%74oken", "to%6Ben"])
def test_the_token_in_the_address_is_not_logged(center, token, name):
    # Not by `requests`, which would spell the name as usual.
    connection = http.client.HTTPConnection("127.0.0.1", center.port)
    connection.request("GET", f"/api/event?{name}={token}")
    assert connection.getresponse().status == 200
    connection.close()
    web = next(process for process in center.processes if process.name == "web")
    assert "/api/event" in web.log.read_text()
    assert token not in web.log.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"params": {"token": "0" * 64}},
        {"params": {"token": "\0"}},
        {"params": {"token": "é" * 20}},
        {"headers": {"Authorization": "Token " + "0" * 64}},
        {"headers": {"Authorization": "Token"}},
        {"headers": {"Authorization": "Basic YTpi"}},
        {"cookies": {"sessionid": "0" * 32}},
    ],
)
def test_without_a_good_token_the_answer_is_401_as_everywhere(center, arguments):
    answer = get(center, **arguments)
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]
    assert "WWW-Authenticate" in answer.headers


def test_an_expired_token_is_refused(center):
    token = make_token(center, "expired")
    center.run_python(
        "from knox.models import AuthToken; from django.utils import timezone;"
        "AuthToken.objects.filter(user__username='expired').update(expiry=timezone.now())"
    )
    assert get(center, params={"token": token}).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_it_can_only_be_got(center, token, method):
    answer = get(center, method=method, params={"token": token})
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET"


def test_an_id_that_the_stream_never_gave_is_refused(center, token):
    answer = get(center, params={"token": token}, headers={"Last-Event-ID": "yesterday"})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["elsewhere.example", "", "localhost.elsewhere.example"])
def test_it_answers_only_to_the_servers_own_names(center, token, host):
    answer = get(center, params={"token": token}, headers={"Host": host})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_whoever_is_logged_in_to_the_console_may_listen_with_the_session(center):
    key = center.run_python(
        "from accounts.models import User; from accounts.sessions import SessionStore;"
        "from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY;"
        "user = User.objects.create_user('admin', password='x' * 20); session = SessionStore();"
        "session[SESSION_KEY] = str(user.pk);"
        "session[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend';"
        "session[HASH_SESSION_KEY] = user.get_session_auth_hash(); session.save(); print(session.session_key)"
    ).split()[-1]
    with get(center, cookies={"sessionid": key}) as answer:
        assert answer.status_code == 200


def test_a_listener_that_stops_reading_costs_nothing_and_misses_nothing(center, token, emitter):
    async def scenario() -> None:
        before = emitter.emitted
        slow, quick = Listener(center.port, token), Listener(center.port, token)
        slow.may_read.clear()
        tasks = await listening(quick)
        tasks.append(asyncio.create_task(slow.listen()))
        await slow.until("an answer", lambda listener: listener.status)
        # More than the buffers of a connection hold.
        await asyncio.to_thread(emitter.emit, 1_500)
        await quick.heard(1_500, 60)
        slow.may_read.set()
        await slow.heard(1_500, 60)
        await end(tasks)
        assert slow.titles == quick.titles == emitter.titles[before:]

    asyncio.run(scenario())


async def listening(*listeners: Listener) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(listener.listen()) for listener in listeners]
    await asyncio.gather(*(listener.opened() for listener in listeners))
    return tasks


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_listener_that_comes_back_is_told_what_it_missed(center, token, emitter):
    async def scenario() -> None:
        first = Listener(center.port, token)
        tasks = await listening(first)
        before = emitter.emitted
        await asyncio.to_thread(emitter.emit, 3)
        await first.heard(3)
        await end(tasks)
        # More than is kept in memory or read at once.
        await asyncio.to_thread(emitter.emit, 250)
        second = Listener(center.port, token, last_event_id=first.last_event_id)
        tasks = await listening(second)
        await asyncio.to_thread(emitter.emit, 2)
        await second.heard(252)
        await end(tasks)
        assert first.titles + second.titles == emitter.titles[before:]
        assert "stream-reset" not in second.names

    asyncio.run(scenario())


def test_a_listener_that_leaves_before_the_first_event_can_come_back_too(center, token, emitter):
    async def scenario() -> None:
        first = Listener(center.port, token)
        await end(await listening(first))
        await asyncio.to_thread(emitter.emit, 1)
        second = Listener(center.port, token, last_event_id=first.last_event_id)
        tasks = await listening(second)
        await second.heard(1)
        await end(tasks)
        assert second.titles == emitter.titles[-1:]

    asyncio.run(scenario())


def test_a_listener_learns_when_what_it_missed_is_gone(center, token, emitter):
    async def scenario() -> None:
        first = Listener(center.port, token)
        await end(await listening(first))
        # More than the web process remembers.
        await asyncio.to_thread(emitter.emit, 50)
        await asyncio.to_thread(
            center.run_python,
            "from django_eventstream.models import Event; top = Event.objects.order_by('-eid')[0].eid;"
            "Event.objects.filter(eid__lt=top).delete()",
        )
        late = Listener(center.port, token, last_event_id=first.last_event_id)
        tasks = await listening(late)
        await late.heard(1)
        await end(tasks)
        assert late.names[:3] == ["stream-open", "stream-reset", "message"]
        assert late.titles == emitter.titles[-1:]

    asyncio.run(scenario())


def test_an_id_from_the_future_begins_anew(center, token, emitter):
    async def scenario() -> None:
        listener = Listener(center.port, token, last_event_id="events:1000000")
        tasks = await listening(listener)
        # Only then is it known after which event it goes on.
        await listener.until("the reset", lambda listener: "stream-reset" in listener.names)
        await asyncio.to_thread(emitter.emit, 1)
        await listener.heard(1)
        await end(tasks)
        assert [name for name in listener.names if name != "keep-alive"] == ["stream-open", "stream-reset", "message"]

    asyncio.run(scenario())


def test_a_quiet_stream_is_kept_alive(center, token):
    async def scenario() -> None:
        listener = Listener(center.port, token)
        tasks = await listening(listener)
        await listener.until("a keep-alive", lambda listener: "keep-alive" in listener.names)
        await end(tasks)

    asyncio.run(scenario())


def test_a_stream_ends_when_its_token_is_revoked_and_no_other_does(center, token):
    async def scenario() -> None:
        revoked = Listener(center.port, make_token(center, "revoked"))
        other = Listener(center.port, token)
        tasks = await listening(revoked, other)
        await asyncio.to_thread(
            center.run_python,
            "from knox.models import AuthToken; AuthToken.objects.filter(user__username='revoked').delete()",
        )
        await revoked.until("the end", lambda listener: listener.is_ended)
        assert revoked.names[-1] == "stream-error"
        assert not other.is_ended
        await end(tasks)

    asyncio.run(scenario())


def test_progress_comes_as_events_of_its_own_name(center, token):
    async def scenario() -> None:
        listener = Listener(center.port, token)
        tasks = await listening(listener)
        code = (
            "from records.events import emit_progress; from records.models import RecoveryRecord, State;"
            "emit_progress(RecoveryRecord(pk=7, state=State.RUNNING, progress={'files_done': 3}))"
        )
        await asyncio.to_thread(center.run_python, code)
        await listener.until("progress", lambda listener: listener.progress)
        await end(tasks)
        assert listener.progress[0]["record"] == {"kind": "recovery", "id": 7}
        assert listener.progress[0]["progress"] == {"files_done": 3}
        assert not listener.titles

    asyncio.run(scenario())


def test_an_outage_of_redis_loses_and_doubles_nothing_and_listeners_share_one_connection():
    if postgres_programs():
        with postgres_server() as url, installation(url) as center:
            _survive_an_outage(center, url)
    else:
        with installation() as center:
            _survive_an_outage(center, None)


def _survive_an_outage(center: Installation, postgres_url: str | None) -> None:
    redis, web = center.redis(), center.web()
    token = make_token(center)
    emitter = Emitter(center)

    async def scenario() -> None:
        listeners = [Listener(center.port, token) for _ in range(50)]
        tasks = await listening(*listeners)
        await asyncio.to_thread(emitter.emit, 20)
        await asyncio.gather(*(listener.heard(20) for listener in listeners))
        redis.kill()
        await asyncio.to_thread(emitter.emit, 20)
        # They come without Redis, too, only later.
        await asyncio.gather(*(listener.heard(40) for listener in listeners))
        center.redis()
        await asyncio.to_thread(emitter.emit, 200)
        await asyncio.gather(*(listener.heard(240) for listener in listeners))
        assert web.threads() <= 10
        if postgres_url:
            assert connections(postgres_url, "web") <= 5
        await end(tasks)
        assert all(listener.titles == emitter.titles for listener in listeners)

    asyncio.run(scenario())


def connections(postgres_url: str, name: str) -> int:
    """Return how many connections a program holds."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute(query, [name]).fetchone()
    assert row is not None
    return int(row[0])
