"""The directory that is restored to, and the only way into it: one component at a time, never through a symbolic link.

A repository may be hostile and the target may hold anything, so no path is ever handed to the operating system whole.
Directories are opened relative to their parent's descriptor with `O_NOFOLLOW`, entries are made relative to the
descriptor of the directory they belong to.
"""

import contextlib
import errno
import os
import stat
from collections import OrderedDict

from engine.errors import EngineError, UnsafePath
from engine.metadata import Traits, apply_metadata, read_traits
from engine.node import Node

Path = tuple[bytes, ...]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_DIRECTORIES = 64


def check_name(name: bytes) -> None:
    """Raise UnsafePath for a name that is not one component of a path."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise UnsafePath("the name could lead out of the target")


def shown(path: Path) -> bytes:
    """Return a path inside the snapshot as people write it."""
    return b"/" + b"/".join(path)


class Target:
    """A directory to restore into. Not safe for use from several threads: each opens its own."""

    def __init__(self, directory: bytes, *, create: bool = False) -> None:
        self.directory = directory
        try:
            if create:
                os.makedirs(directory, mode=0o700, exist_ok=True)
            # The target itself is the user's word, so that one may be a link.
            self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise EngineError(f"the target {os.fsdecode(directory)} cannot be used: {error.strerror}") from error
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._born_in: Path | None = None
        self._born: Traits | None = None

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        os.close(self._root)

    def descriptor(self, path: Path) -> int:
        """Return a descriptor of a directory below the target, which stays ours. Raises OSError."""
        known = len(path)
        while known and path[:known] not in self._open:
            known -= 1
        descriptor = self._root
        if known:
            descriptor = self._open[path[:known]]
            self._open.move_to_end(path[:known])
        for depth in range(known, len(path)):
            descriptor = os.open(path[depth], _DIRECTORY, dir_fd=descriptor)
            self._open[path[: depth + 1]] = descriptor
            # The one just opened stays, the one it was opened from may go.
            if len(self._open) > OPEN_DIRECTORIES:
                os.close(self._open.popitem(last=False)[1])
        return descriptor

    def status(self, path: Path) -> os.stat_result | None:
        """Return the status of an entry itself (never of a link's target), None if there is none."""
        try:
            return os.stat(path[-1], dir_fd=self.descriptor(path[:-1]), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def make_directory(self, path: Path, *, may_replace: bool = True) -> bool:
        """Make a directory, in the place of whatever else stands there; return False if it is there. Raises OSError."""
        status = self.status(path)
        if status is not None and stat.S_ISDIR(status.st_mode):
            return False
        if status is not None:
            if not may_replace:
                raise FileExistsError(errno.EEXIST, "something else stands in the place of the directory")
            self.remove(path)
        os.mkdir(path[-1], 0o700, dir_fd=self.descriptor(path[:-1]))
        return True

    def open_up(self, path: Path) -> None:
        """Let whoever owns a directory write into it until it gets its metadata, even if its mode does not. Raises OSError."""
        status = self.status(path)
        if status is None or status.st_mode & stat.S_IRWXU == stat.S_IRWXU:
            return
        if os.geteuid() == status.st_uid != 0:
            self.change_mode(path, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)

    def change_mode(self, path: Path, permissions: int) -> None:
        """Change the mode of an entry that need not be readable, and never that of a link's target. Raises OSError."""
        descriptor = os.open(path[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor(path[:-1]))
        try:
            if stat.S_ISLNK(os.fstat(descriptor).st_mode):
                raise UnsafePath("a link took the place of the entry")
            # A descriptor of this kind cannot be given to fchmod.
            os.chmod(f"/proc/self/fd/{descriptor}", permissions)
        finally:
            os.close(descriptor)

    def make_file(self, path: Path) -> int:
        """Return a descriptor of a new, empty file, in the place of whatever stood there. Raises OSError."""
        parent = self.descriptor(path[:-1])
        try:
            return os.open(path[-1], _NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self.remove(path)
            return os.open(path[-1], _NEW_FILE, 0o600, dir_fd=parent)

    def open_file(self, path: Path, flags: int = os.O_RDONLY) -> int:
        """Return a descriptor of a regular file that is there. Raises OSError."""
        parent = self.descriptor(path[:-1])
        descriptor = os.open(path[-1], flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsafePath("something else took the place of the file")
        return descriptor

    def remove(self, path: Path) -> None:
        """Remove an entry that is no directory with something in it. Raises OSError."""
        parent = self.descriptor(path[:-1])
        status = os.stat(path[-1], dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(path[-1], dir_fd=parent)
        else:
            os.unlink(path[-1], dir_fd=parent)

    def make_special(self, path: Path, node: Node) -> None:
        """Make a symbolic link, fifo or device in the place of whatever stood there. Raises OSError."""
        if node.type not in ("symlink", "fifo", "dev", "chardev"):
            raise UnsafePath(f"the entry is of an unknown type ({node.type})")
        parent = self.descriptor(path[:-1])
        with contextlib.suppress(FileNotFoundError):
            self.remove(path)
        if node.type == "symlink":
            os.symlink(node.linktarget, path[-1], dir_fd=parent)
        elif node.type == "fifo":
            os.mkfifo(path[-1], 0o600, dir_fd=parent)
        else:
            kind = stat.S_IFBLK if node.type == "dev" else stat.S_IFCHR
            os.mknod(path[-1], 0o600 | kind, node.device, dir_fd=parent)

    def link(self, existing: Path, path: Path) -> None:
        """Make a hard link to an entry that was restored before. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            self.remove(path)
        # Opening the one directory may close the other.
        source = os.dup(self.descriptor(existing[:-1]))
        try:
            destination = self.descriptor(path[:-1])
            os.link(existing[-1], path[-1], src_dir_fd=source, dst_dir_fd=destination, follow_symlinks=False)
        finally:
            os.close(source)

    def apply_metadata_to_new(self, path: Path, node: Node, descriptor: int) -> list[OSError]:
        """Do as `apply_metadata` for a file that `make_file` has just made.

        What such a file is born with depends on its directory, so that the first tells it for the others.
        """
        parent = path[:-1]
        if self._born_in != parent:
            self._born_in, self._born = parent, read_traits(descriptor)
        return apply_metadata(node, b"", descriptor=descriptor, traits=self._born)

    def apply_metadata(self, path: Path, node: Node, descriptor: int | None = None) -> list[OSError]:
        """Give an entry its metadata and return what could not be set. Raises OSError if the entry is gone."""
        if descriptor is None and node.type == "dir":
            descriptor = self.descriptor(path)
        if descriptor is not None:
            return apply_metadata(node, b"", descriptor=descriptor)
        # Not every call on a link takes a descriptor; this name leads to the open directory, wherever that is now.
        parent = self.descriptor(path[:-1])
        return apply_metadata(node, b"/proc/self/fd/%d/%s" % (parent, path[-1]))
