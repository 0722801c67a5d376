"""Run as a script: `confined.py UID GID COMMAND`: a shell command that can gain no rights, as another user if one is named.

It stands by itself, since it runs before the rights are given up: `-` for a user means to stay who one is.
"""

import ctypes
import os
import resource
import sys

PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    user, group, command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if user != "-":
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        sys.exit(126)
    os.execv("/bin/sh", ["/bin/sh", "-c", command])  # noqa: S606 -- it is a shell that is started


if __name__ == "__main__":
    main()
