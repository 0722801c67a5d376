"""Reading a pack from one end to the other, to see that it is what its name, its header and the index say.

A pack of usual size is read at once. Of a large one, of which there are as large ones as somebody likes, memory holds a blob; of a
large tree in it a piece.
"""

import hashlib
from collections.abc import Iterator

from engine.blob import PackedBlob
from engine.bounds import TREE_BYTES
from engine.compression import decompress_pieces
from engine.copies import Copies
from engine.errors import DataDamaged, StoreError
from engine.pack import LENGTH_SIZE, iter_header, sealed_header_length
from engine.repository import Repository
from engine.store import Buffer, FileKind

# restic's usual packs, with the blob that made them full.
READ_AT_ONCE = 32 << 20
PIECE_BYTES = 4 << 20
# Of a pack of which all is wrong.
PROBLEMS_LIMIT = 20


def pack_problems(repository: Repository, copies: Copies, number: int, size: int) -> list[str]:
    """Return what is wrong with the pack of that number in `copies`, which has `size` bytes in the store."""
    try:
        return _PackCheck(repository, copies, number, size).run()
    except (DataDamaged, StoreError) as error:
        return [str(error)]


class _PackCheck:
    def __init__(self, repository: Repository, copies: Copies, number: int, size: int) -> None:
        self.repository, self.copies, self.number, self.size = repository, copies, number, size
        self.id = copies.packs[number]
        self.hash = hashlib.sha256()
        self.problems: list[str] = []

    def run(self) -> list[str]:
        if self.size <= READ_AT_ONCE:
            content = self.repository.store.get(FileKind.DATA, self.id.hex())
            if hashlib.sha256(content).digest() != self.id:
                return ["its content is not what its name says"]
            length = sealed_header_length(content[-LENGTH_SIZE:], len(content))
            view = memoryview(content)
            header = self.repository.key.open(view[-LENGTH_SIZE - length : -LENGTH_SIZE])
            for blob in self.listed(header, len(content)):
                self.check(blob, iter((view[blob.offset : blob.offset + blob.length],)))
            return self.problems
        header = self.repository.load_pack_header(self.id, self.size)
        end = 0
        for blob in self.listed(header, self.size):
            end = blob.offset + blob.length
            self.check(blob, self.pieces(blob.offset, end))
        for _ in self.pieces(end, self.size):
            pass
        return self.problems if self.hash.digest() == self.id else ["its content is not what its name says"]

    def pieces(self, begin: int, end: int) -> Iterator[bytes]:
        """Read a part of the pack, which follows what was read before."""
        for at in range(begin, end, PIECE_BYTES):
            piece = self.repository.store.get_range(FileKind.DATA, self.id.hex(), at, min(PIECE_BYTES, end - at))
            self.hash.update(piece)
            yield piece

    def listed(self, header: bytes, size: int) -> Iterator[PackedBlob]:
        """Yield what the header lists, and compare it with what the index says of this pack."""
        copies, index = self.copies, self.repository.index
        said = sorted(copies.of_pack(self.number), key=copies.offset.__getitem__)
        agreed = 0
        for blob in iter_header(header, size):
            if agreed < len(said):
                copy = said[agreed]
                is_same = (copies.offset[copy], copies.length[copy]) == (blob.offset, blob.length)
                if is_same and copies.blob[copy] == index.number(blob.type, blob.id) and self.agrees_on_growth(blob):
                    agreed += 1
            yield blob
        if agreed != len(said):
            self.problems.insert(0, "its header disagrees with the index")

    def agrees_on_growth(self, blob: PackedBlob) -> bool:
        """Whether the index knows this place of the blob with the size that the header says, if it knows the place."""
        index = self.repository.index
        for place in (index.find(blob.type, blob.id), *index.other_places(blob.type, blob.id)):
            if place is not None and (place.pack_id, place.offset) == (self.id, blob.offset):
                return place.uncompressed_length == blob.uncompressed_length
        return True

    def check(self, blob: PackedBlob, sealed: Iterator[Buffer]) -> None:
        """Open a blob whose stored bytes come in pieces, all of which are read, whatever they are."""
        try:
            if max(blob.length, blob.uncompressed_length) > TREE_BYTES:
                self.check_large(blob, sealed)
            else:
                pieces = list(sealed)
                self.repository.open_blob(blob.id, pieces[0] if len(pieces) == 1 else b"".join(pieces), blob.uncompressed_length)
        except DataDamaged as error:
            if len(self.problems) < PROBLEMS_LIMIT:
                self.problems.append(str(error))
        finally:
            for _ in sealed:
                pass

    def check_large(self, blob: PackedBlob, sealed: Iterator[Buffer]) -> None:
        plain = self.repository.key.open_pieces(sealed)
        digest = hashlib.sha256()
        for piece in decompress_pieces(plain, blob.uncompressed_length) if blob.uncompressed_length else plain:
            digest.update(piece)
        if digest.digest() != blob.id:
            raise DataDamaged(f"the content of blob {blob.id.hex()} is not what its name says")
