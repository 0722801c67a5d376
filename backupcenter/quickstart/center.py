"""The server's REST API as the quick start uses it: any script could do the same."""

from typing import Any
from urllib.parse import quote

import requests

from backupcenter.quickstart.installation import QuickstartError

TIMEOUT_S = 60


class Center:
    """A logged-in session with the server at `url`."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._session = requests.Session()
        # The machine's proxy has no business with a server on loopback.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Token {token}"

    def get(self, path: str, **query: str | int) -> Any:
        return self._call("GET", path, params=query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._call("POST", path, json=body or {})

    def put(self, path: str, body: dict[str, Any], **query: str) -> Any:
        return self._call("PUT", path, json=body, params=query)

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            answer = self._session.request(method, self.url + quote(path), timeout=TIMEOUT_S, **arguments)
        except requests.RequestException as error:
            raise QuickstartError(f"the server did not answer {method} {path}") from error
        if not answer.ok:
            try:
                reason = answer.json()["error"]
            except (ValueError, KeyError, TypeError):
                reason = f"status {answer.status_code}"
            raise QuickstartError(str(reason))
        return answer.json() if answer.content else None
