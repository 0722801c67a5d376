"""What a repository holds, as its store lists it: to be compared with what it held before."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.blob import BlobType
from engine.index import decode_index
from engine.repository import Repository
from engine.store import FileKind
from tests.engine.processes import Site

Blob = tuple[BlobType, bytes]


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a repository holds at a moment.

    `index`: the blobs of each pack, by index file; `packs`: sizes in bytes; `partial`: unfinished files, those of locks aside.
    """

    snapshots: frozenset[str]
    index: dict[str, dict[str, list[Blob]]]
    packs: dict[str, int]
    locks: frozenset[str]
    partial: frozenset[str]

    def blobs(self) -> Counter[Blob]:
        """In how many packs each blob lies, as the index says."""
        packs = {pack: blobs for file in self.index.values() for pack, blobs in file.items()}
        return Counter(blob for blobs in packs.values() for blob in blobs)

    def unindexed(self) -> set[str]:
        """The packs that no index file names."""
        return self.packs.keys() - self.named_by(self.index)

    def named_by(self, index_files: Iterable[str]) -> set[str]:
        """The packs that these index files name."""
        return {pack for file in index_files for pack in self.index[file]}

    def bytes_of(self, packs: set[str]) -> int:
        return sum(self.packs[pack] for pack in packs)


class Watcher:
    """Looks at a repository, with the key derived once."""

    def __init__(self, site: Site) -> None:
        self._repository: Repository = site.open()
        self._directory = None if site.location.startswith("s3:") else Path(site.location)
        self._known: dict[str, dict[str, list[Blob]]] = {}

    def look(self) -> Holdings:
        store = self._repository.store
        return Holdings(
            snapshots=frozenset(name for name, _ in store.list(FileKind.SNAPSHOTS)),
            index={name: self._index_file(name) for name, _ in store.list(FileKind.INDEX)},
            packs=dict(store.list(FileKind.DATA)),
            locks=frozenset(name for name, _ in store.list(FileKind.LOCKS)),
            partial=self._partial(),
        )

    def _partial(self) -> frozenset[str]:
        if self._directory is None:
            return frozenset()
        return frozenset(path.name for path in self._directory.rglob(".partial-*") if path.parent.name != "locks")

    def _index_file(self, name: str) -> dict[str, list[Blob]]:
        if name not in self._known:
            listed = decode_index(self._repository.load_file(FileKind.INDEX, name))
            self._known[name] = {pack.id.hex(): [(blob.type, blob.id) for blob in pack.blobs] for pack in listed}
        return self._known[name]
