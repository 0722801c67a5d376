"""How long a store is waited for: what failed for the moment is done again, ever later, until a deadline.

tenacity does the counting. boto3's own modes cannot: they know no deadline, so that they give up on a gateway that takes a
minute to restart, and they repeat a request but not the reading of an answer that breaks off.
"""

import logging
import time
from collections.abc import Callable
from ctypes import c_bool
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawValue
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from engine.errors import AnswerBroken, CertificateRefused, EngineError, StoreBusy, StoreUnreachable

log = logging.getLogger(__name__)
T = TypeVar("T")
HURRY_CHECK_S = 0.1


@dataclass(frozen=True, slots=True)
class Patience:
    """When a try counts as failed, when the next one is made, and when there is no next one.

    `connect_timeout_s` and `read_timeout_s` end a try in which nothing happens for so long. The pause after a try is random, so
    that clients of one store do not come back together: up to `first_pause_s`, doubled after each try, up to `longest_pause_s`.
    No try begins later than `deadline_s` after the first; `first_answer_s` while the store has yet to answer, or has been given
    up on, since then the address is wrong or the outage is long. `broken_answers`: how many answers may break off in a row.
    """

    connect_timeout_s: float = 10
    read_timeout_s: float = 60
    first_pause_s: float = 0.5
    longest_pause_s: float = 30
    deadline_s: float = 600
    first_answer_s: float = 30
    broken_answers: int = 5


class Repeater:
    """Does things until they succeed, fail for a reason, or patience ends. For all threads, and for processes forked later."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._is_answering = False
        # Shared memory, so that a hurry reaches the processes that were forked.
        self._is_hurried = RawValue(c_bool, False)
        self._retrying = Retrying(
            retry=retry_if_exception(may_pass),
            wait=wait_random_exponential(multiplier=patience.first_pause_s, max=patience.longest_pause_s),
            stop=self._is_enough,
            sleep=self._pause,
            before_sleep=_tell,
            reraise=True,
        )

    def __call__(self, act: Callable[[], T]) -> T:
        """Return what `act` returns. Raises what it raised last."""
        try:
            result = self._retrying(act)
        except EngineError as error:
            self._is_answering = not may_pass(error)
            raise
        self._is_answering = True
        return result

    def hurry(self) -> None:
        """Repeat nothing from now on; what waits for another try has it at once, as its last."""
        self._is_hurried.value = True

    def _is_enough(self, state: RetryCallState) -> bool:
        if self._is_hurried.value:
            return True
        is_broken = state.outcome is not None and isinstance(state.outcome.exception(), AnswerBroken)
        if is_broken and state.attempt_number >= self._patience.broken_answers:
            return True
        limit = self._patience.deadline_s if self._is_answering else self._patience.first_answer_s
        return (state.seconds_since_start or 0) + state.upcoming_sleep > limit

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_hurried.value and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, HURRY_CHECK_S))


def may_pass(error: BaseException) -> bool:
    """Whether the same thing may succeed a little later."""
    return isinstance(error, StoreUnreachable | StoreBusy | AnswerBroken) and not isinstance(error, CertificateRefused)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("%s; trying again in %.1f s", error, state.upcoming_sleep)
