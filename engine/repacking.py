"""Moving blobs from pack to pack: each is opened and its hash checked, so that damage is found and never carried along.

A blob moves as it is sealed, since the key stays the same; nothing is compressed anew. Trees get into packs of trees and data
into packs of data, even out of packs that hold both, as old ones of restic do.
"""

from collections.abc import Callable

from engine.blob import BlobLocation, BlobType
from engine.bounds import MOVED_BYTES, TREE_BYTES
from engine.errors import TooLarge
from engine.pack import iter_header
from engine.ranges import join_places
from engine.repository import Repository
from engine.store import FileKind
from engine.writer import RepositoryWriter


def move_blobs(
    repository: Repository,
    writer: RepositoryWriter,
    pack_id: bytes,
    pack_size: int,
    is_wanted: Callable[[BlobType, bytes], bool],
) -> int:
    """Store the wanted blobs of a pack of `pack_size` bytes once more; return how many these were, each counted once.

    Where they lie the pack's own header says. Raises DataDamaged and StoreError's family.
    """
    wanted: dict[BlobType, dict[bytes, BlobLocation]] = {blob_type: {} for blob_type in BlobType}
    for blob in iter_header(repository.load_pack_header(pack_id, pack_size), pack_size):
        if is_wanted(blob.type, blob.id):
            wanted[blob.type][blob.id] = BlobLocation(pack_id, blob.offset, blob.length, blob.uncompressed_length)
    for blob_type, places in wanted.items():
        large = {blob_id: place for blob_id, place in places.items() if _size(place) > TREE_BYTES}
        for part in join_places(place for place in places.items() if place[0] not in large):
            content = memoryview(repository.store.get_range(FileKind.DATA, pack_id.hex(), part.offset, part.length))
            for blob_id, place in part.blobs:
                sealed = content[place.offset - part.offset :][: place.length]
                repository.open_blob(blob_id, sealed, place.uncompressed_length)
                writer.add_sealed(blob_type, blob_id, (sealed,), place.uncompressed_length)
        for blob_id, place in large.items():
            if place.length > MOVED_BYTES:
                raise TooLarge(f"blob {blob_id.hex()} of {place.length} bytes is larger than is moved")
            writer.add_sealed(blob_type, blob_id, repository.stream_sealed(place, blob_id), place.uncompressed_length)
    return sum(map(len, wanted.values()))


def _size(place: BlobLocation) -> int:
    return max(place.length, place.uncompressed_length)
