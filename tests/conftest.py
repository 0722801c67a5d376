"""What every test may ask for: accounts, API clients and the real services.

`./runtests` names the services that a machine lacks; their tests are skipped there, never in CI.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.services.ceph import CephGateway, ceph_gateway, missing_programs
from tests.services.faketime import faketime_library
from tests.services.postgres import postgres_programs, postgres_server
from tests.services.redis import redis_server
from tests.services.sharing import shared

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

PASSWORD = "correct horse battery"

MISSING: dict[str, str | None] = {
    "restic": None if shutil.which("restic") else "the restic program is not installed",
    "ceph": "Ceph's programs are missing: " + ", ".join(missing_programs()) if missing_programs() else None,
    "postgres": None if postgres_programs() else "PostgreSQL's programs are not installed",
    "redis_cli": None if shutil.which("redis-cli") else "redis-cli is not installed",
    "browser": None if shutil.which("chromium") else "Chromium is not installed",
    "systemd": None if shutil.which("systemd-analyze") else "systemd is not installed",
    "faketime": None if faketime_library() else "libfaketime is not installed",
    "gettext": None if shutil.which("xgettext") else "gettext is not installed",
    "root": None if os.geteuid() == 0 else "the tests do not run as root",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="also run the soaks (minutes each)")
    parser.addoption("--soak-share", type=float, default=1.0, metavar="X", help="make the engine's soaks this part of their length")
    parser.addoption("--faults-json", metavar="FILE", help="add what each cell of the fault matrix measured to this file")
    parser.addoption("--soak-seed", type=int, metavar="N", help="what the engine's soaks draw by chance, as a run has printed it")


def pytest_configure() -> None:
    missing = [reason for reason in MISSING.values() if reason]
    if missing and os.environ.get("SKIP_NOTHING"):
        raise pytest.UsageError("nothing may be skipped here, but " + "; ".join(missing))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        soaks = [item for item in items if item.get_closest_marker("soak")]
        config.hook.pytest_deselected(items=soaks)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]
    # The longest are begun first, so that no worker has them left when the others are done.
    items.sort(key=lambda item: "system" not in item.path.parts)
    for item in items:
        for marker, reason in MISSING.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if os.environ.get("NOT_AUDITED"):
        message = "NOT AUDITED: no service of known vulnerabilities can be reached (.ci/audit)."
        terminalreporter.write_line(message, red=True, bold=True)


@pytest.fixture(scope="session")
def ceph_endpoint(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[CephGateway]:
    """A running Ceph gateway, shared by the session with all its workers: make a user of your own."""
    directory = tmp_path_factory.getbasetemp()
    if hasattr(pytestconfig, "workerinput"):
        directory = directory.parent
    with shared(directory / "ceph", ceph_gateway) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a running Redis, shared by the tests of one worker."""
    with redis_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty PostgreSQL database, shared by the tests of one worker."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """The test database, which Django must be able to empty: of the audit log it would refuse that."""
    from django.db import connection

    from accounts.audit.append_only import remove

    with django_db_blocker.unblock(), connection.schema_editor() as editor:
        remove(None, editor)


@pytest.fixture(autouse=True, scope="session")
def _cheap_keys() -> Iterator[None]:
    """The keys of new repositories take no time to derive, neither here nor in the programs that a test lets open them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.keys.SCRYPT_N", 2)
        yield


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    """No throttle or cached repository of one test reaches the next."""
    from django.core.cache import cache

    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def _servers_language() -> Iterator[None]:
    """No language that one test's request preferred reaches the next test."""
    from django.utils import translation

    yield
    translation.deactivate()


@pytest.fixture
def account(db) -> Callable[[str], object]:
    """Return a function that makes the account of a role, named as the role."""
    from accounts.models import User

    def make(role: str) -> User:
        existing = User.objects.filter(username=role).first()
        return existing or User.objects.create_user(
            role, password=PASSWORD, role=role, is_staff=True, is_superuser=role == User.Role.ADMINISTRATOR
        )

    return make


@pytest.fixture
def api(db, account) -> Callable[[str | None], object]:
    """Return a function that makes an API client which is logged in with a role; None: not logged in."""
    from knox.models import AuthToken
    from rest_framework.test import APIClient

    def client(role: str | None = "administrator") -> APIClient:
        agent = APIClient()
        agent.raise_request_exception = False
        if role is not None:
            _, token = AuthToken.objects.create(account(role))
            agent.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        return agent

    return client
