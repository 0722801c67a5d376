"""What the agent shows to server and broker, and how it takes the next login that the server hands out.

A new one is written down beside the old one before it is used, and the old one is good until then: so whatever happens between
two of these lines, one of the two opens. When the server refuses the one, the other is tried, and what another process has
written meanwhile (`join`, run again).
"""

import logging
import threading
from dataclasses import replace
from pathlib import Path

from agent.config import AgentConfig, NotJoined, load_config, save_config

log = logging.getLogger(__name__)


class Login:
    """The login in a state directory. Safe for use from several threads; one process at a time may take new ones."""

    def __init__(self, state: Path, config: AgentConfig) -> None:
        self._state, self._config = state, config
        self._lock = threading.Lock()
        # By the broker, which the server does not know yet.
        self.is_refused = False

    @property
    def token(self) -> str:
        return self._config.token

    @property
    def broker(self) -> str:
        return self._config.broker

    def take(self, token: str, broker: str) -> None:
        """Keep a new login, and the present one until the new one has opened. Raises OSError; then all is as before."""
        with self._lock:
            kept = self._config
            self._keep(replace(kept, token=token, broker=broker, previous_token=kept.token, previous_broker=kept.broker))

    def note_accepted(self, token: str) -> None:
        """The server has taken `token`: the one before it does not count any more."""
        if not self._config.previous_token or token != self._config.token:
            return
        with self._lock:
            if self._config.previous_token and token == self._config.token:
                try:
                    self._keep(replace(self._config, previous_token="", previous_broker=""))
                except OSError as error:
                    log.warning("the old login is not removed from %s yet: %s", self._state, error.strerror)

    def other_than(self, refused: str) -> str | None:
        """Return a token to try after the server has refused one; None: there is no other."""
        with self._lock:
            if self._config.token != refused:
                # Another thread has taken a new one meanwhile.
                return self._config.token
            for config in self._others():
                if config.token != refused:
                    self._config = config
                    return config.token
        return None

    def _others(self) -> list[AgentConfig]:
        found = []
        try:
            written = load_config(self._state)
            # One that joined as another client is for the agent that is started next.
            if (written.center, written.client) == (self._config.center, self._config.client):
                found.append(written)
        except NotJoined:
            pass
        if self._config.previous_token:
            token, broker = self._config.previous_token, self._config.previous_broker
            found.append(replace(self._config, token=token, broker=broker, previous_token="", previous_broker=""))
        return found

    def _keep(self, config: AgentConfig) -> None:
        save_config(self._state, config)
        self._config = config
