"""`.ci/audit` finds what a service of vulnerabilities knows, and takes no silence for an answer."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.system.processes import TOP

Query = dict[str, Any]


def vulnerability(name: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}
    return {"id": f"TEST-{name}", "summary": "bad", "affected": [affected]}


@pytest.fixture
def audit() -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a function that audits with a service which knows vulnerabilities of the packages (and versions) that are given."""
    known: dict[str, str] = {}

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked: Query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = asked["package"]["name"], asked["version"]
            body = json.dumps({"vulns": [vulnerability(name)]} if known.get(name) in (version, "any") else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(**vulnerable: str) -> subprocess.CompletedProcess[str]:
        known.clear()
        known.update(vulnerable)
        command = [sys.executable, ".ci/audit", f"http://127.0.0.1:{server.server_port}"]
        return subprocess.run(command, cwd=TOP, capture_output=True, text=True)

    yield run
    server.shutdown()
    server.server_close()


def test_packages_of_which_nothing_is_known_pass(audit) -> None:
    done = audit(jinja2="2.4.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 vulnerable, 0 skipped" in done.stdout
    assert int(done.stdout.split("audited ")[1].split()[0]) > 50


def test_a_vulnerable_package_fails_and_is_named(audit) -> None:
    done = audit(jinja2="2.4.1", django="any")
    assert done.returncode == 1
    assert "TEST-django (fixed in: 99)" in done.stdout


def test_a_service_that_knows_nothing_has_not_audited(audit) -> None:
    done = audit()
    assert done.returncode == 3
    assert "NOT AUDITED" in done.stdout
