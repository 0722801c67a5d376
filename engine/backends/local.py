"""A repository in a directory, laid out as restic lays it out.

A file is written beside its place under another name, brought to the disk, and then renamed: it is there whole or not.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator

from engine.errors import AccessDenied, BucketMissing, FileMissing, QuotaExceeded, StoreError
from engine.store import Buffer, FileKind, relative_path

DIRECTORY_MODE = 0o700
FILE_MODE = 0o400
PARTIAL = ".partial-"


class LocalStore:
    """A directory of this machine (or one that is mounted)."""

    parallel_uploads = 2
    settle_s = 0.0

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @property
    def location(self) -> str:
        return self.directory

    def get(self, kind: FileKind, name: str) -> bytes:
        with self._failing(f"{kind.value} file {name}"), open(self._path(kind, name), "rb", buffering=0) as file:
            return file.readall()

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        with self._failing(f"{kind.value} file {name}"):
            descriptor = os.open(self._path(kind, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)

    def put(self, kind: FileKind, name: str, data: Buffer) -> None:
        path = self._path(kind, name)
        partial = f"{os.path.dirname(path)}/{PARTIAL}{secrets.token_hex(8)}"
        with self._failing(f"{kind.value} file {name}"):
            try:
                descriptor = self._create(partial)
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(descriptor, view) :]
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.rename(partial, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(partial)
                raise
            self._sync_directory(os.path.dirname(path))

    def list(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        if kind is FileKind.CONFIG:
            if self.exists(kind, ""):
                yield "config", os.path.getsize(self._path(kind, ""))
            return
        root = f"{self.directory}/{kind.value}"
        directories = [root]
        if kind is FileKind.DATA:
            with self._failing("the data directory"), contextlib.suppress(FileNotFoundError):
                directories = [entry.path for entry in os.scandir(root) if entry.is_dir()]
        for directory in directories:
            with self._failing(directory), contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
                for entry in entries:
                    if not entry.name.startswith(".") and entry.is_file():
                        yield entry.name, entry.stat().st_size

    def delete(self, kind: FileKind, name: str) -> None:
        with self._failing(f"{kind.value} file {name}"), contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(kind, name))

    def exists(self, kind: FileKind, name: str) -> bool:
        return os.path.exists(self._path(kind, name))

    def create(self) -> None:
        with self._failing(self.directory):
            os.makedirs(self.directory, mode=DIRECTORY_MODE, exist_ok=True)
            for kind in FileKind:
                if kind is not FileKind.CONFIG:
                    os.makedirs(f"{self.directory}/{kind.value}", mode=DIRECTORY_MODE, exist_ok=True)
            for first_digits in range(256):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(f"{self.directory}/data/{first_digits:02x}", mode=DIRECTORY_MODE)

    def reopened(self) -> "LocalStore":
        return LocalStore(self.directory)

    def close(self) -> None:
        pass

    def _path(self, kind: FileKind, name: str) -> str:
        return f"{self.directory}/{relative_path(kind, name)}"

    def _create(self, partial: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(partial, flags, FILE_MODE)
        except FileNotFoundError:
            # A repository that was copied may lack directories that were empty.
            if not os.path.isdir(self.directory):
                raise
            os.makedirs(os.path.dirname(partial), mode=DIRECTORY_MODE, exist_ok=True)
            return os.open(partial, flags, FILE_MODE)

    @staticmethod
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

    @contextlib.contextmanager
    def _failing(self, what: str) -> Iterator[None]:
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
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise QuotaExceeded(f"no space is left for {what} in {self.directory}") from error
            raise StoreError(f"{what} in {self.directory}: {error.strerror}") from error
