"""A server that speaks the agents' protocol and remembers what it was told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "the agent's own token"


@dataclass
class FakeCenter:
    """`answers`: status and body by the last part of the path, in place of the usual ones."""

    specification: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, Any] | bytes]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    # What the latest request said of the agent.
    told: dict[str, str] = field(default_factory=dict)
    cancel: bool = False
    # Attempts that do not count any more.
    stale: set[int] = field(default_factory=set)
    url: str = ""
    finished: threading.Event = field(default_factory=threading.Event)
    progressed: threading.Event = field(default_factory=threading.Event)
    beaten: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, body: dict[str, Any], authorization: str) -> tuple[int, dict[str, Any] | bytes]:
        self.requests.append((path, body, authorization))
        step = path.rsplit("/", 1)[1]
        if step == "progress":
            self.progressed.set()
        if step == "heartbeat":
            self.beaten.set()
        if step in self.answers:
            return self.answers[step]
        match step:
            case "claim":
                return 200, self.specification
            case "progress" if body["attempt"] in self.stale:
                return 409, {"error": "This attempt at the job does not count any more."}
            case "progress":
                return 200, {"cancel": self.cancel, "lease_s": 30}
            case "finish":
                self.finished.set()
                return 200, {}
            case "join":
                queue = {"queue": "client.7", "broker": "redis://:secret@127.0.0.1:1/0"}
                return 201, {"client": {"id": 7, "hostname": body["hostname"]}, "token": TOKEN, **queue}
        return 200, {"client": 7}

    def bodies(self, step: str) -> list[dict[str, Any]]:
        return [body for path, body, _ in self.requests if path.endswith("/" + step)]


@contextmanager
def fake_center() -> Iterator[FakeCenter]:
    center = FakeCenter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            center.told = {name: self.headers.get(name, "") for name in ("User-Agent", "Agent-Protocol")}
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = center.answer(self.path, body, self.headers.get("Authorization", ""))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    center.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield center
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
