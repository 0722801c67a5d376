"""What an agent says of its host."""

import os
import platform


def os_name() -> str:
    """Return the operating system as people name it."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def load_average() -> float | None:
    """Return how many processes wanted to run, over the last minute; None where the system does not count them."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
