"""The web process keeps its connections to PostgreSQL, never more than it is allowed, and notices when one is cut."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import requests

from tests.services.postgres import postgres_server
from tests.system.listening import make_token
from tests.system.processes import installation
from tests.system.test_event_stream import connections

ALLOWED = 2


@pytest.mark.postgres
def test_many_requests_share_few_connections_and_survive_their_loss():
    with postgres_server() as url, installation(url, DATABASE_CONNECTIONS=str(ALLOWED)) as center:
        center.redis()
        center.web()
        headers = {"Authorization": f"Token {make_token(center)}"}

        def status(_number: int) -> int:
            return requests.get(f"{center.url}/api/client", headers=headers, timeout=30).status_code

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(status, range(64))) == {200}
        assert 1 <= connections(url, "web") <= ALLOWED
        with psycopg.connect(url) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'web'")
        assert [status(number) for number in range(4)] == [200] * 4
