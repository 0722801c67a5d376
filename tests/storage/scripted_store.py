"""A store that answers what a test tells it to: for the errors that a real one gives only when it is set up to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

BUCKETS = (
    '<?xml version="1.0" encoding="UTF-8"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Owner><ID>{id}</ID><DisplayName>{name}</DisplayName></Owner><Buckets></Buckets></ListAllMyBucketsResult>"
)
USAGE = "<Usage><Entries></Entries><Summary><QuotaMaxBytes>{quota}</QuotaMaxBytes><TotalBytes>{used}</TotalBytes></Summary></Usage>"
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>said the store</Message></Error>'


@dataclass(slots=True)
class ScriptedStore:
    """Its answers, as status and body, and the requests that it saw. `address`: host:port; `redirect`: status and place."""

    address: str = ""
    buckets: tuple[int, str] = (200, BUCKETS.format(id="s3user", name="S3 User"))
    usage: tuple[int, str] = (200, USAGE.format(quota=1099511627776, used=100000))
    redirect: tuple[int, str] | None = None
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def refuse(self, status: int, code: str) -> None:
        self.buckets = self.usage = (status, ERROR.format(code=code))

    def belongs_to(self, username: str) -> None:
        self.buckets = (200, BUCKETS.format(id=username, name=username))


@contextmanager
def scripted_store() -> Iterator[ScriptedStore]:
    """Run the store for the length of the block."""
    store = ScriptedStore()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            store.requests.append((self.path, dict(self.headers)))
            status, body = store.usage if "usage" in self.path else store.buckets
            if store.redirect is not None:
                # With all that a store can say to send somebody elsewhere.
                status, place = store.redirect
                body = f"<Error><Code>PermanentRedirect</Code><Endpoint>{place}</Endpoint><Region>eu-west-1</Region></Error>"
            content = body.encode()
            self.send_response(status)
            if store.redirect is not None:
                self.send_header("Location", store.redirect[1])
                self.send_header("x-amz-bucket-region", "eu-west-1")
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.address = f"127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
