"""Python's own start in programs on libfaketime's wall clock: an absolute sleep by the clock that is not faked fails there."""

import select
import time


def sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = sleep
