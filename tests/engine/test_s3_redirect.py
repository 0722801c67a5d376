"""A store that answers with a redirect, as one does that is asked without TLS, is an error that says so."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engine.backends import Credentials, open_store
from engine.errors import StoreError
from engine.store import FileKind


class _Redirecting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(301)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_PUT = do_GET

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    "act",
    [lambda store: store.get(FileKind.CONFIG, ""), lambda store: list(store.list(FileKind.KEYS))],
    ids=["get", "list"],
)
def test_a_store_that_redirects_is_an_error_of_the_store(act):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            credentials = Credentials("key", "secret-key")
            store = open_store(f"s3:http://127.0.0.1:{server.server_address[1]}/bucket", credentials=credentials)
            with pytest.raises(StoreError, match="redirect"):
                act(store)
        finally:
            server.shutdown()
            serving.join()
