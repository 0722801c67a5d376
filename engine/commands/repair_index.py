"""Repair the index from the packs: what it should say is what the packs' own headers say.

Headers are read of the packs that no index file names, that have another size than theirs need, or of which index files
disagree; or of all. Index files that say nothing wrong stay as they are; the others are replaced, the new ones written first,
so that a crash leaves an index that says too much at worst, and the next repair ends what this one began. Packs are never
touched.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from engine.blob import PackedBlob
from engine.errors import Cancelled, DataDamaged, TooLarge
from engine.index import Index, IndexedPack, decode_index
from engine.pack import header_size, iter_header
from engine.progress import Progress, ProgressMeter
from engine.readahead import map_ahead
from engine.repository import Repository
from engine.store import FileKind
from engine.writer import IndexWriter

READERS = 4


@dataclass(slots=True)
class IndexRepair:
    """What was found and done. Packs by name: `added` were in no index file that can be read, `corrected` not as it said.

    `gone` were named and do not exist; `unreadable` have no header that can be read (with the reason): their blobs are in the
    index no more. `damaged_files`: index files that could not be read, with the reason. `foreign`: among the packs, but none.
    """

    added: list[str] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    damaged_files: list[tuple[str, str]] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    files_replaced: int = 0


@dataclass(frozen=True, slots=True)
class PackEntry:
    """What an index file says of a pack: the size in bytes that it must have, and a number that stands for its blobs."""

    size: int
    fingerprint: int

    @classmethod
    def of(cls, blobs: Collection[PackedBlob]) -> "PackEntry":
        compressed = sum(blob.uncompressed_length > 0 for blob in blobs)
        size = sum(blob.length for blob in blobs) + header_size(len(blobs) - compressed, compressed)
        return cls(size, hash(frozenset(blobs)))


def repair_index(
    repository: Repository,
    *,
    read_all_packs: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> IndexRepair:
    """Make the index say what the packs hold. `read_all_packs` believes no index file, and replaces them all.

    Raises TooLarge for a pack with something that no program writes, RepositoryLocked, LockLost, Cancelled (nothing is deleted
    then) and StoreError's family: a store that fails is no damage. Whoever goes on with the repository opens it again.
    """
    meter, cancelled = ProgressMeter("reading the index", on_progress), cancel or threading.Event()
    report = IndexRepair()
    with repository.lock(exclusive=True) as lock:
        files = dict(_read_files(repository, report, cancelled))
        stored = repository.stored_packs(report.foreign.append)
        agreed = {} if read_all_packs else agreed_packs(files.values(), stored)
        obsolete = {name for name, packs in files.items() if not packs.keys() <= agreed.keys()}
        writer = IndexWriter(Index(), repository.save_file)
        # First what is known: a pack that index files to stay name needs no other.
        named = {pack_id for name, packs in files.items() if name not in obsolete for pack_id in packs}
        for name in sorted(obsolete) if agreed else ():
            for pack in decode_index(repository.load_file(FileKind.INDEX, name)):
                if pack.id in agreed and pack.id not in named:
                    named.add(pack.id)
                    writer.add_pack(pack, stored[pack.id])
        unsure = {pack_id: size for pack_id, size in stored.items() if pack_id not in agreed}
        indexed = {pack_id for packs in files.values() for pack_id in packs}
        for pack in _read_headers(repository, unsure, report, meter, cancelled):
            writer.add_pack(pack, stored[pack.id])
            truth = PackEntry.of(pack.blobs)
            if pack.id not in indexed:
                report.added.append(pack.id.hex())
            elif any(packs.get(pack.id, truth) != truth for packs in files.values()):
                report.corrected.append(pack.id.hex())
        report.gone = [pack_id.hex() for pack_id in sorted(indexed - stored.keys())]
        replaced = [*sorted(obsolete), *(name for name, _ in report.damaged_files)]
        # With the last file alone: whoever heeds it must not meet it before the others are there.
        writer.flush(supersedes=replaced)
        _check_cancelled(cancelled)
        for name in replaced:
            lock.require_held()
            repository.store.delete(FileKind.INDEX, name)
        report.files_replaced = len(replaced)
    return report


def agreed_packs(files: Collection[Mapping[bytes, PackEntry | None]], stored: Mapping[bytes, int]) -> dict[bytes, PackEntry]:
    """Return the packs of which all index files say the same, and what the store's list of sizes bears out."""
    said: dict[bytes, PackEntry | None] = {}
    for packs in files:
        for pack_id, entry in packs.items():
            said[pack_id] = entry if said.get(pack_id, entry) == entry else None
    return {pack_id: entry for pack_id, entry in said.items() if entry is not None and stored.get(pack_id) == entry.size}


def _read_files(
    repository: Repository, report: IndexRepair, cancelled: threading.Event
) -> Iterator[tuple[str, dict[bytes, PackEntry | None]]]:
    """Yield name and packs of each index file that can be read; None for a pack that a file names more than once.

    Of each pack a summary is kept, since the blobs of all would take several times the memory of an index.
    """
    for name, _ in list(repository.store.list(FileKind.INDEX)):
        _check_cancelled(cancelled)
        packs: dict[bytes, PackEntry | None] = {}
        try:
            for pack in decode_index(repository.load_file(FileKind.INDEX, name)):
                packs[pack.id] = None if pack.id in packs else PackEntry.of(pack.blobs)
        except DataDamaged as error:
            report.damaged_files.append((name, str(error)))
            continue
        yield name, packs


def _read_headers(
    repository: Repository, sizes: Mapping[bytes, int], report: IndexRepair, meter: ProgressMeter, cancelled: threading.Event
) -> Iterator[IndexedPack]:
    """Yield these packs as their headers list them, without those that have none."""

    def read(pack_id: bytes) -> bytes | DataDamaged:
        _check_cancelled(cancelled)
        try:
            return repository.load_pack_header(pack_id, sizes[pack_id])
        except DataDamaged as error:
            return error

    meter.phase, meter.files_done, meter.files_total = "reading headers", 0, len(sizes)
    wanted = sorted(sizes)
    with ThreadPoolExecutor(READERS, thread_name_prefix="headers") as readers:
        # Headers are decoded here, one at a time: the blobs of one may take a hundred megabytes.
        for pack_id, header in zip(wanted, map_ahead(readers, read, wanted, 2 * READERS), strict=True):
            try:
                if isinstance(header, DataDamaged):
                    raise header
                yield IndexedPack(pack_id, list(iter_header(header, sizes[pack_id])))
            except TooLarge as error:
                # What can read it would miss it in the index.
                raise TooLarge(f"pack {pack_id.hex()}: {error}; nothing was changed") from error
            except DataDamaged as error:
                report.unreadable.append((pack_id.hex(), str(error)))
                meter.errors += 1
            meter.files_done += 1
            meter.tick()


def _check_cancelled(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled
