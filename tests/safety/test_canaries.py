"""No secret is anywhere in clear: each is unique, everything is run for real, and every trace of it is searched.

Where a secret has to be is said here: an answer that hands it out by contract, the agent's own state, the server's environment.
"""

import base64
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests
from playwright.sync_api import Page, Response, sync_playwright

from accounts.models import password_digest
from tests.safety.routes import PAGES
from tests.safety.watching import Watcher, redis_content
from tests.services.ceph import CephGateway
from tests.services.collector import collector
from tests.services.ports import wait_until
from tests.system.operating import FAILED, LOOPBACK_IPV4, SUCCESS, Operator, Record
from tests.system.processes import Installation, installation

pytestmark = [pytest.mark.ceph, pytest.mark.browser]

ACCOUNT_PASSWORD = "canary-of-the-account-7Zx"
WRONG_PASSWORD = "canary-typed-wrongly-5Qp"
WRONG_KEY = "canaryOfAWrongStoreKeyXXXXXXXXXXXXXXXXXX"
SECRET_KEY = "canary-of-the-servers-settings-SECRET-KEY-0123456789"
ENCRYPTION_KEY = "canary-of-the-servers-settings-ENCRYPTION-KEY"


@dataclass
class Traces:
    """All that an installation left behind. `answers`: of the API, by who asked, method and path."""

    secrets: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    answers: dict[tuple[str, str, str], str] = field(default_factory=dict)
    pages: list[tuple[str, str]] = field(default_factory=list)

    def found(self, text: str) -> set[str]:
        """Return the names of the secrets that the text holds, as they are or encoded."""
        return {name for name, secret in self.secrets.items() if any(form in text for form in _forms(secret))}


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    # Of base64 the middle, which does not depend on where in a text it begins.
    encoded = {base64.b64encode(b"x" * shift + raw)[4:-4].decode() for shift in range(3)}
    return {secret, quote(secret, safe=""), raw.hex(), *encoded}


# As whoever has a repository's password reads them.
DEFINITIONS = """
from engine.commands.dump import dump_file
from jobs.definitions.describing import PATH, SIGNATURE_PATH
from jobs.models import KeptPlans
from storage.repositories import open_repository
for kept in KeptPlans.objects.all():
    repository = open_repository(kept.repository)
    repository.load_index()
    for path in (PATH, SIGNATURE_PATH):
        print(b"".join(dump_file(repository, kept.snapshots[-1], path.encode())).decode())
"""


class Story:
    """An installation that does everything which it can do, once."""

    def __init__(self, center: Installation, gateway: CephGateway, traces: Traces) -> None:
        self.center, self.gateway, self.traces = center, gateway, traces
        self.operator = Operator(center)
        self.source = center.directory / "source"
        self.restored = center.directory / "restored"
        self.source.mkdir()
        (self.source / "file").write_text("nothing secret" * 1000)

    def ask(self, who: str, token: str, method: str, path: str, **arguments: object) -> requests.Response:
        """Ask the API and keep the answer."""
        headers = {"Authorization": f"Token {token}"} if token else {}
        answer = requests.request(method, self.center.url + path, headers=headers, timeout=60, **arguments)  # type: ignore[arg-type]
        self.traces.answers[who, method, path] = f"{answer.headers} {answer.text}"
        return answer

    def run(self) -> None:
        secrets = self.traces.secrets
        administrator = self.operator.token
        secrets["administrator's token"] = administrator
        for role in ("viewer", "operator"):
            body = {"username": role, "password": password_digest(ACCOUNT_PASSWORD + role), "role": role}
            assert self.ask("administrator", administrator, "POST", "/api/account", json=body).status_code == 201
            secrets[f"{role}'s password"] = ACCOUNT_PASSWORD + role
            secrets[f"{role}'s digest"] = body["password"]
        tokens = {"viewer": self.log_in("viewer", "GET"), "operator": self.log_in("operator", "POST")}
        tokens["administrator"] = administrator
        secrets["wrong digest"] = password_digest(WRONG_PASSWORD)
        wrong = {"username": "viewer", "password": secrets["wrong digest"]}
        assert self.ask("nobody", "", "GET", "/login", params=wrong).status_code == 401
        assert self.ask("nobody", "", "POST", "/login", json=wrong).status_code == 401
        self.join(administrator)
        good = self.back_up_and_restore()
        self.fail_with_wrong_keys(good)
        self.center.run_python("from jobs.definitions.keeping import request_changed_plans; request_changed_plans()")
        for who, token in tokens.items():
            self.read_everything(who, token, good)

    def definitions(self) -> str:
        """Return what the maintenance worker has written of the plans."""
        changed = "from jobs.definitions.keeping import changed_repositories; print(changed_repositories())"
        wait_until(lambda: self.center.run_python(changed).strip() == "[]", "the plans to be written", 120)
        return self.center.run_python(DEFINITIONS)

    def log_in(self, role: str, method: str) -> str:
        data = {"username": role, "password": self.traces.secrets[f"{role}'s digest"]}
        where = {"params": data} if method == "GET" else {"json": data}
        token = requests.request(method, f"{self.center.url}/login", timeout=60, **where).text
        self.traces.secrets[f"{role}'s token"] = token
        return token

    def join(self, administrator: str) -> None:
        self.operator.store.mkdir()
        self.operator.api.post("/api/client", {"ipv4": LOOPBACK_IPV4, "ipv6": None, "hostname": "host"})
        token = self.operator.api.post(f"/api/client/{LOOPBACK_IPV4}/token")["token"]
        self.traces.secrets["join token"] = token
        self.traces.secrets["unused join token"] = self.operator.api.post("/api/jointoken")["token"]
        self.center.join(token)
        state = next(path for path in (self.center.directory / "agent").iterdir() if path.suffix == ".json")
        assert state.stat().st_mode & 0o077 == 0
        remembered = json.loads(state.read_text())
        self.traces.secrets["agent's token"] = remembered["token"]
        self.traces.secrets["agent's password for the broker"] = unquote(urlsplit(remembered["broker"]).password or "")
        assert self.traces.secrets["agent's password for the broker"] != self.center.redis_password
        self.agent = self.center.agent()

    def back_up_and_restore(self) -> dict[str, Record]:
        """Back up to a directory and to the object store, check and restore. Return the records by kind of store."""
        access_key, secret_key = self.gateway.make_user(f"canary{time.time_ns()}")
        self.traces.secrets["store's secret key"] = secret_key
        api, done = self.operator.api, {}
        directory = {"address": str(self.operator.store), "https": False, "type": 2, "display_name": "directory"}
        store = {"address": self.gateway.address, "https": False, "type": 0, "display_name": "ceph"}
        for kind, endpoint in {"directory": directory, "ceph": store}.items():
            api.post("/api/endpoint", endpoint)
            keys = {"access_key": access_key, "secret_key": secret_key} if kind == "ceph" else {}
            self.operator.endpoint = endpoint
            self.operator.tenant = api.post("/api/tenant", {"endpoint": {"address": endpoint["address"]}, **keys})
            bucket = self.operator.tenant["username"].lower()
            plan = self.operator.plan(f"plan-{kind}", self.source, "0 0 0 1 1 ? 2099", bucket=bucket)
            record = self.operator.run(plan)
            done[kind] = {**self.operator.wait_for_end(record), "plan": plan}
            self.traces.secrets[f"password of the repository ({kind})"] = self.repository_password()
            recovery = {"destination": str(self.restored / kind), "include": [], "verify": True}
            asked = {"client": {"ipv4": LOOPBACK_IPV4}, "backup_record": {"id": record["id"]}}
            number = api.post("/api/recovery", {**asked, "recovery_data": json.dumps(recovery)})["id"]
            wait_until(lambda number=number: api.get(f"/api/record/recovery/{number}")["state"] == SUCCESS, "the restore", 90)
        code = "from records.maintenance import request_maintenance; from storage.models import Repository;"
        self.center.run_python(code + "[request_maintenance(row, kind) for row in Repository.objects.all() for kind in (1, 2)]")
        return done

    def repository_password(self) -> str:
        code = "from storage.models import Repository; print(Repository.objects.latest('pk').password)"
        return self.center.run_python(code).split()[-1]

    def fail_with_wrong_keys(self, good: dict[str, Record]) -> None:
        """Let the store refuse the keys: of a change, where the API says so, and of a job that is run with them."""
        tenant = self.operator.tenant
        path = f"/api/tenant/{quote(tenant['username'], safe='')}?endpoint={self.gateway.address}"
        self.traces.secrets["wrong secret key"] = WRONG_KEY
        changed = self.ask("administrator", self.operator.token, "PUT", path, json={"secret_key": WRONG_KEY})
        assert changed.status_code == 400
        self.set_secret_key(WRONG_KEY)
        record = self.operator.run(good["ceph"]["plan"])
        self.operator.wait(record, lambda now: now["state"] == FAILED, "the job to fail", 120)
        assert self.operator.record(record)["error"]
        self.set_secret_key(self.traces.secrets["store's secret key"])

    def set_secret_key(self, key: str) -> None:
        """Set it past the check that the API makes."""
        code = f"row.secret_key = {key!r}; row.save()"
        self.center.run_python(f"from storage.models import Tenant; row = Tenant.objects.exclude(access_key='').get(); {code}")

    def read_everything(self, who: str, token: str, good: dict[str, Record]) -> None:
        """Ask every route that reads, and one that is refused."""
        lists = ["account", "endpoint", "tenant", "client", "backup", "record/backup", "record/recovery", "audit", "audit/export"]
        paths = [f"/api/{name}" for name in lists]
        for record in good.values():
            one = f"/api/record/backup/{record['id']}"
            paths += [one, f"{one}/files?path={self.source}", f"{one}/download?path={self.source}/file"]
            paths.append(f"/api/backup/{record['plan']['uuid']}")
        for path in paths:
            self.ask(who, token, "GET", path)
        self.ask(who, token, "POST", "/api/endpoint", json={"address": "/nowhere", "https": False, "type": 2, "display_name": ""})

    def browse(self) -> None:
        """Log in to the console in a real browser and open every list, form and row there."""
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            context = chromium.new_context()
            page = context.new_page()
            page.on("response", self.keep)
            page.goto(f"{self.center.url}/admin/login/")
            page.fill("input[name=username]", "administrator")
            for password in (WRONG_PASSWORD, "correct horse battery"):
                page.fill("input[name=password]", password)
                page.press("input[name=password]", "Enter")
                page.wait_for_load_state()
            for name in PAGES:
                self.open_pages(page, f"{self.center.url}/admin/{name.rpartition('_')[0]}/{name.rpartition('_')[2]}/")
            session = next(cookie["value"] for cookie in context.cookies() if cookie["name"] == "sessionid")
            self.traces.secrets["session's key"] = session
            chromium.close()
        assert sum(1 for url, _body in self.traces.pages if "/change/" in url) > 10

    def open_pages(self, page: Page, address: str) -> None:
        page.goto(address)
        rows = page.locator("#result_list a[href*='/change/']").evaluate_all("links => links.slice(0, 3).map(link => link.href)")
        for target in [f"{address}add/", *rows]:
            page.goto(target)

    def keep(self, response: Response) -> None:
        if response.status < 300 or response.status >= 400:
            headers = {name: value for name, value in response.headers.items() if name != "set-cookie"}
            self.traces.pages.append((response.url, f"{response.url} {headers} {response.body().decode('utf-8', 'replace')}"))


@pytest.fixture(scope="module")
def traces(ceph_endpoint: CephGateway) -> Iterator[Traces]:
    kept = Traces()
    with collector() as collected, installation(SECRET_KEY=SECRET_KEY, ENCRYPTION_KEYS=ENCRYPTION_KEY) as center:
        for environment in (center.environment, center.agent_environment):
            environment |= collected.environment
        kept.secrets |= {"secret key": SECRET_KEY, "encryption key": ENCRYPTION_KEY, "broker's password": center.redis_password}
        kept.secrets |= {"administrator's password": "correct horse battery", "wrong password": WRONG_PASSWORD}
        center.redis()
        center.web()
        story = Story(center, ceph_endpoint, kept)
        watcher = Watcher(center)
        with watcher.watch(story.operator.token):
            center.control()
            center.maintenance()
            center.beat()
            story.run()
            story.browse()
        kept.places = {
            "logs": "\n".join(path.read_text(errors="replace") for path in center.directory.glob("*.log")),
            "commands to Redis": "\n".join(watcher.redis),
            "content of Redis": redis_content(center.redis_url),
            "arguments of processes": b"\n".join(watcher.arguments).decode("utf-8", "replace"),
            "environments of agent and engine": b"\n".join(watcher.environments).decode("utf-8", "replace"),
            "event stream": b"".join(watcher.frames).decode(),
            "traces": "\n".join(collected.raw),
            "database": "\n".join(sqlite3.connect(center.directory / "center.sqlite3").iterdump()),
            "restored files": _content_of(story.restored),
            "repository": _content_of(center.directory / "store"),
            "definitions of plans": story.definitions(),
            "agent's outbox and leftovers": _content_of(center.directory / "agent", lambda path: path.suffix != ".json"),
        }
        yield kept


def _content_of(directory: Path, wanted: Callable[[Path], bool] = lambda path: True) -> str:
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and wanted(path))
    return "\n".join(f"{path} {path.read_bytes().decode('latin-1')}" for path in files)


PLACES = {
    "logs": "succeed",
    "commands to Redis": "backup-1",
    "content of Redis": "",
    "arguments of processes": "agent.child",
    "environments of agent and engine": "PATH=",
    "event stream": "plan-ceph",
    "traces": "backup-1",
    "database": "INSERT INTO",
    "restored files": "nothing secret",
    "repository": "config",
    "definitions of plans": "plan-ceph",
    "agent's outbox and leftovers": "",
}


@pytest.mark.parametrize(("place", "proof"), PLACES.items())
def test_no_secret_is_there_in_clear(traces: Traces, place: str, proof: str) -> None:
    assert proof in traces.places[place], "the place was not looked at"
    assert traces.found(traces.places[place]) == set()


def test_no_answer_of_the_api_holds_a_secret_but_the_keys_that_administrators_read(traces: Traces) -> None:
    found = {asked: names for asked, answer in traces.answers.items() if (names := traces.found(answer))}
    assert found == {("administrator", "GET", "/api/tenant"): {"store's secret key"}}


def test_the_browser_is_given_no_secret(traces: Traces) -> None:
    found = {url: names for url, text in traces.pages if (names := traces.found(text))}
    assert found == {}


def test_a_secret_would_be_found(traces: Traces) -> None:
    for name, secret in traces.secrets.items():
        assert len(secret) >= 16, name
        for text in (secret, base64.b64encode(f"user:{secret}".encode()).decode(), quote(secret), secret.encode().hex()):
            assert name in traces.found(f"before {text} after")
