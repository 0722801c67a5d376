"""Services end with the process that started them, however that ends: a worker of an interrupted session is killed."""

import os
from collections.abc import Callable
from functools import partial

from engine.lifeline import end_with_parent


def ending_with_us() -> Callable[[], None]:
    """Return what a program that this process starts must do first (Popen's `preexec_fn`)."""
    return partial(end_with_parent, os.getpid())
