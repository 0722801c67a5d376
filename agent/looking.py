"""What somebody who makes a plan may see of this host: the entries of a directory, and how much there is below some paths.

The message on the queue is a number only. What it stands for is asked over HTTPS, and told there: names, sizes and times, never
content. The host's owner may bound it (`browse` in `agent.allowed`). No symbolic link is followed, on the way neither.
"""

import contextlib
import itertools
import logging
import os
import posixpath
import stat
import threading
from collections.abc import Iterator
from typing import Any

from agent.allowed import Allowed, AllowedFileBroken, NotAllowed, load_allowed
from agent.center import Center, CenterError
from engine.archiver.estimate import count_files
from engine.errors import EngineError
from engine.filter import compile_patterns

log = logging.getLogger(__name__)

ENTRIES_AT_ONCE = 1000
# Of one directory: beyond these its names are not even sorted.
MOST_NAMES = 100_000
LONGEST_ESTIMATE_S = 30.0
LOOKED_AT = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# To pass through a directory takes no right to read it.
PASSED = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
KINDS = {
    stat.S_IFDIR: "dir",
    stat.S_IFREG: "file",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chardev",
    stat.S_IFBLK: "dev",
}


class CannotLook(Exception):
    """What is asked for cannot be shown; the message says why."""


def look(center: Center, number: str) -> None:
    """Ask what the look `number` is about, and answer. Whatever goes wrong is answered or logged, not raised."""
    try:
        question = center.look_question(number)
        try:
            answer = answer_to(question)
        except (CannotLook, NotAllowed, AllowedFileBroken, EngineError) as error:
            answer = {"problem": str(error)}
        except (KeyError, TypeError, ValueError):
            answer = {"problem": "the agent does not understand what it is asked"}
        center.answer_look(number, answer)
    except CenterError as error:
        log.info("look not answered: %s", error)


def answer_to(question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer, as JSON takes it. Raises CannotLook, NotAllowed, AllowedFileBroken, EngineError."""
    allowed = load_allowed()
    if question["kind"] == "list":
        return {"listing": list_directory(allowed, str(question["path"]), int(question.get("offset", 0)))}
    if question["kind"] == "estimate":
        seconds = min(float(question.get("seconds", LONGEST_ESTIMATE_S)), LONGEST_ESTIMATE_S)
        return {"estimate": estimate(allowed, list(question["include"]), list(question["exclude"]), seconds)}
    raise CannotLook("this agent is too old to answer that")


def list_directory(allowed: Allowed, path: str, offset: int = 0) -> dict[str, Any]:
    """Return a page of a directory's entries, directories first. Raises CannotLook, NotAllowed.

    `offset`: of the first entry. Of a directory above those that may be looked at only the way to them is shown.
    """
    place = posixpath.normpath(posixpath.join("/", path))
    shown = allowed.shown_below(place)
    with _opened(place) as descriptor:
        names = sorted(_names(descriptor, shown), key=lambda found: (not found[1], found[0]))
        page = names[offset : offset + ENTRIES_AT_ONCE]
        entries = [_entry(descriptor, name) for name, _is_dir in page]
    return {"path": place, "offset": offset, "total": len(names), "is_whole": len(names) < MOST_NAMES, "entries": entries}


def estimate(allowed: Allowed, include: list[str], exclude: list[str], seconds: float) -> dict[str, Any]:
    """Return files and bytes below paths, without what is excluded. Raises NotAllowed, EngineError.

    After `seconds` it is what was counted by then, and `is_whole` is false.
    """
    places: list[str] = []
    for path in sorted(posixpath.normpath(posixpath.join("/", each)) for each in include):
        allowed.require_shown(path)
        allowed.require_shown(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)))
        if not any(path == above or path.startswith(above.rstrip("/") + "/") for above in places):
            places.append(path)
    stopped = threading.Event()
    timer = threading.Timer(seconds, stopped.set)
    timer.daemon = True
    timer.start()
    try:
        files, size = count_files([os.fsencode(place) for place in places], compile_patterns(exclude), stopped)
    finally:
        timer.cancel()
    missing = [place for place in places if not os.path.lexists(place)]
    return {"files": files, "bytes": size, "is_whole": not stopped.is_set(), "missing": missing[:100]}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open a directory step by step, so that no link on the way leads elsewhere. Raises CannotLook."""
    parts = [part for part in path.split("/") if part]
    descriptor = os.open("/", PASSED if parts else LOOKED_AT)
    try:
        for number, part in enumerate(parts, 1):
            try:
                opened = os.open(part, LOOKED_AT if number == len(parts) else PASSED, dir_fd=descriptor)
            except (OSError, ValueError) as error:
                raise CannotLook(_why_not("/" + "/".join(parts[:number]), part, descriptor, error)) from error
            os.close(descriptor)
            descriptor = opened
        yield descriptor
    finally:
        os.close(descriptor)


def _why_not(path: str, name: str, above: int, error: Exception) -> str:
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            return f"{_told(path)} is a symbolic link to {_told(os.readlink(name, dir_fd=above))}; links are not followed"
    return f"{_told(path)}: {getattr(error, 'strerror', None) or 'is no path'}"


def _names(descriptor: int, shown: set[str] | None) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(descriptor) as entries:
            for entry in itertools.islice(entries, MOST_NAMES):
                if shown is None or entry.name in shown:
                    yield entry.name, entry.is_dir(follow_symlinks=False)
    except OSError as error:
        raise CannotLook(f"the directory cannot be read: {error.strerror}") from error


def _entry(descriptor: int, name: str) -> dict[str, Any]:
    """Return what is told of an entry. `reason`: why a backup could not read it, empty if it could."""
    entry: dict[str, Any] = {"name": _told(name), "is_text": _told(name) == name, "type": "", "size": None, "mtime": None}
    try:
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        entry["type"] = KINDS.get(stat.S_IFMT(status.st_mode), "")
        entry["mtime"] = max(0, int(status.st_mtime))
        if entry["type"] == "file":
            entry["size"] = status.st_size
        if entry["type"] == "symlink":
            entry["target"] = _told(os.readlink(name, dir_fd=descriptor))
        if entry["type"] in ("dir", "file"):
            # Not blocking, should it be another thing by now.
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
            os.close(os.open(name, flags, dir_fd=descriptor))
    except OSError as error:
        entry["reason"] = error.strerror or type(error).__name__
    return entry


def _told(name: str) -> str:
    """Return a name as text that JSON and a database can hold."""
    return os.fsencode(name).decode("utf-8", "replace")
