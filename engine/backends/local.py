"""A repository in a directory, laid out as restic lays it out.

A file is written beside its place under another name, brought to the disk, and then renamed: it is there whole or not.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator

from engine.bounds import require_size
from engine.errors import AccessDenied, BucketMissing, FileMissing, QuotaExceeded, StoreError
from engine.store import Buffer, FileKind, is_file_name, relative_path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o400
NAME_LENGTH = 64
PARTIAL = ".partial-"
# What restic has in the names of files that it is still writing, beside those that are whole.
RESTICS_PARTIAL = "-tmp-"


class LocalStore:
    """A directory of this machine (or one that is mounted)."""

    parallel_uploads = 2
    packs_ahead = 0
    settle_s = 0.0

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @property
    def location(self) -> str:
        return self.directory

    def get(self, kind: FileKind, name: str) -> bytes:
        with self.opened(kind, name) as descriptor:
            size = os.fstat(descriptor).st_size
            require_size(kind, name, size)
            # It is put as a whole, and never grows.
            return os.pread(descriptor, size, 0)

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        with self.opened(kind, name) as descriptor:
            # The memory for `length` bytes is taken before it is known how many there are.
            return os.pread(descriptor, max(0, min(length, os.fstat(descriptor).st_size - offset)), offset)

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        path = self.path(kind, name)
        with self.failing(f"{kind.value} file {name}"):
            file = _PartialFile(self, os.path.dirname(path))
            try:
                file.append(data)
                file.rename(path)
            except BaseException:
                file.remove()
                raise

    def begin_pack(self) -> "_LocalUpload":
        with self.failing("a new pack"):
            return _LocalUpload(self, _PartialFile(self, f"{self.directory}/data/{secrets.token_hex(1)}"))

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        if kind is FileKind.CONFIG:
            if self.exists(kind, ""):
                yield "config", os.path.getsize(self.path(kind, ""))
            return
        for entry in self._entries(kind):
            # A pack in another directory than its own cannot be read by its name, and so is not there.
            is_pack = kind is FileKind.DATA and len(entry.name) == NAME_LENGTH
            if is_pack and not entry.name.startswith(os.path.basename(os.path.dirname(entry.path))):
                continue
            # One that goes meanwhile must not hide those that come after it: a lock may be among them.
            with self.failing(entry.path), contextlib.suppress(FileNotFoundError):
                if is_file_name(entry.name) or (kind is FileKind.DATA and not _is_partial(entry.name)):
                    yield entry.name, entry.stat().st_size

    def delete(self, kind: FileKind, name: str) -> None:
        path = self.path(kind, name)
        with self.failing(f"{kind.value} file {name}"), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            # An index file must be gone for good before the packs go that it names; of packs there are too many to wait for each.
            if kind is not FileKind.DATA:
                _sync_directory(os.path.dirname(path))

    def exists(self, kind: FileKind, name: str) -> bool:
        return os.path.exists(self.path(kind, name))

    def delete_remains(self) -> None:
        for kind in (FileKind.DATA, FileKind.INDEX, FileKind.SNAPSHOTS):
            for entry in self._entries(kind):
                if entry.name.startswith(PARTIAL) or RESTICS_PARTIAL in entry.name:
                    with self.failing(entry.path), contextlib.suppress(FileNotFoundError):
                        os.unlink(entry.path)

    def create(self) -> None:
        with self.failing(self.directory):
            os.makedirs(self.directory, mode=DIRECTORY_MODE, exist_ok=True)
            for kind in FileKind:
                if kind is not FileKind.CONFIG:
                    os.makedirs(f"{self.directory}/{kind.value}", mode=DIRECTORY_MODE, exist_ok=True)
            for first_digits in range(256):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(f"{self.directory}/data/{first_digits:02x}", mode=DIRECTORY_MODE)

    def reopened(self) -> "LocalStore":
        return LocalStore(self.directory)

    def hurry(self) -> None:
        pass

    def close(self) -> None:
        pass

    def path(self, kind: FileKind, name: str) -> str:
        return f"{self.directory}/{relative_path(kind, name)}"

    @contextlib.contextmanager
    def opened(self, kind: FileKind, name: str) -> Iterator[int]:
        """Open a file for the length of the block, by a descriptor. A pipe in its place is not waited for."""
        with self.failing(f"{kind.value} file {name}"):
            descriptor = os.open(self.path(kind, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(f"{kind.value} file {name} in {self.directory} is no file")
                yield descriptor
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def failing(self, what: str) -> Iterator[None]:
        """Turn the operating system's errors about `what` into the engine's."""
        try:
            yield
        except FileNotFoundError as error:
            if not os.path.isdir(self.directory):
                raise BucketMissing(f"the directory {self.directory} does not exist") from error
            raise FileMissing(f"{what} is missing in {self.directory}") from error
        except PermissionError as error:
            raise AccessDenied(f"{what} in {self.directory} may not be used: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EROFS:
                raise AccessDenied(f"{what} in {self.directory} may not be used: {error.strerror}") from error
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise QuotaExceeded(f"no space is left for {what} in {self.directory}") from error
            raise StoreError(f"{what} in {self.directory}: {error.strerror}") from error

    def _entries(self, kind: FileKind) -> Iterator[os.DirEntry[str]]:
        """Yield the files in a kind's directories."""
        root = f"{self.directory}/{kind.value}"
        directories = [root]
        if kind is FileKind.DATA:
            with self.failing("the data directory"), contextlib.suppress(FileNotFoundError):
                directories = [entry.path for entry in os.scandir(root) if entry.is_dir()]
        for directory in directories:
            with self.failing(directory), contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
                yield from (entry for entry in entries if entry.is_file())


class _PartialFile:
    """A file without a name that anybody looks for, beside those that have one."""

    def __init__(self, store: LocalStore, directory: str) -> None:
        self._root = store.directory
        self._path = f"{directory}/{PARTIAL}{secrets.token_hex(8)}"
        self._descriptor = self._create()

    def append(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def rename(self, path: str) -> None:
        """Bring the file to the disk and give it its name."""
        os.fsync(self._descriptor)
        self._close()
        try:
            os.rename(self._path, path)
        except FileNotFoundError:
            self._make_directory(path)
            os.rename(self._path, path)
        _sync_directory(os.path.dirname(path))

    def remove(self) -> None:
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self._path, flags, FILE_MODE)
        except FileNotFoundError:
            self._make_directory(self._path)
            return os.open(self._path, flags, FILE_MODE)

    def _make_directory(self, path: str) -> None:
        """Make the directory that is to hold `path`: a repository that was copied may lack directories that were empty."""
        if os.path.isdir(self._root):
            os.makedirs(os.path.dirname(path), mode=DIRECTORY_MODE, exist_ok=True)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _LocalUpload:
    def __init__(self, store: LocalStore, file: _PartialFile) -> None:
        self._store, self._file = store, file

    def write(self, piece: Buffer) -> None:
        with self._store.failing("a new pack"):
            self._file.append(piece)

    def finish(self, name: str) -> None:
        path = self._store.path(FileKind.DATA, name)
        with self._store.failing(f"data file {name}"):
            self._file.rename(path)

    def abandon(self) -> None:
        self._file.remove()


def _is_partial(name: str) -> bool:
    return name.startswith(".") or RESTICS_PARTIAL in name


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot do this to a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
