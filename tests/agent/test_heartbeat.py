"""An agent says who it is with every request, and goes on saying so to a server that does not understand it."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import app
from agent.app import beat
from agent.center import ABOUT_US, PROTOCOL, Center
from agent.config import AgentConfig
from agent.login import Login
from engine import __version__
from tests.agent.center import TOKEN, FakeCenter
from tests.services.ports import wait_until


@pytest.fixture
def begin(center: FakeCenter, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Return a function that has the heart of an agent beat."""
    ended = threading.Event()
    login = Login(tmp_path, AgentConfig(center.url, 7, "here", "client.7", TOKEN, "redis://broker/0"))
    thread = threading.Thread(target=beat, args=(Center(center.url, login), login, ended))
    yield thread.start
    ended.set()
    thread.join()


def test_the_first_heartbeat_that_arrives_says_that_the_agent_was_started(
    center: FakeCenter, begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_EVERY_S", 0.01)
    center.answers["heartbeat"] = (404, {"error": "not yet"})
    begin()
    assert center.beaten.wait(10)
    center.answers.clear()
    wait_until(lambda: not center.bodies("heartbeat")[-1]["started"], "the agent to be known as started")
    said = center.bodies("heartbeat")[0]
    assert (said["version"], said["running"], said["started"]) == (__version__, [], True)
    assert said["load"] >= 0
    assert center.told == ABOUT_US == {"User-Agent": f"backupcenter-agent/{__version__}", "Agent-Protocol": str(PROTOCOL)}


def test_an_agent_that_is_not_understood_logs_what_to_do_and_goes_on_slowly(
    center: FakeCenter, begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_EVERY_S", 3600.0)
    monkeypatch.setattr(app, "UNSUPPORTED_BEAT_EVERY_S", 0.01)
    center.answers["heartbeat"] = (426, {"error": "This agent is too old for the server: install version 9."})
    with caplog.at_level(logging.ERROR):
        begin()
        wait_until(lambda: len(center.bodies("heartbeat")) > 2, "the agent to try again")
    assert "heartbeat: This agent is too old for the server: install version 9." in caplog.messages


def test_an_agent_beats_as_often_as_the_server_says_within_bounds(
    center: FakeCenter, begin: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "HEARTBEAT_EVERY_S", 3600.0)
    monkeypatch.setattr(app, "SOONEST_BEAT_S", 0.01)
    center.answers["heartbeat"] = (200, {"login_due": False, "beat_every_s": 0.0001})
    begin()
    wait_until(lambda: len(center.bodies("heartbeat")) > 2, "the agent to beat as it is told")
