"""A directory that lives: between two backups files come, change, move and go, large ones and small."""

import os
import random
import shutil
from pathlib import Path

SMALL_BYTES = (100, 30_000)
LARGE_BYTES = (2 << 20, 12 << 20)
INSERTED_BYTES = 200_000
FILES_PER_DIRECTORY = 40
ANY_CONTENT = 1 << 62


class ChangingTree:
    """A tree of about `small` small files and `large` large ones. What becomes of it follows from `rng` alone.

    `contents`: of how many different contents of each size it knows. Of few, what was forgotten with one file comes back with
    another, and trees with different generators have much in common.
    """

    def __init__(self, root: Path, rng: random.Random, *, small: int, large: int, contents: int = ANY_CONTENT) -> None:
        self.root, self._rng = root, rng
        self._small, self._large, self._contents = small, large, contents
        for number in range(small):
            self._write(self._small_file(number), SMALL_BYTES)
        for number in range(large):
            self._write(root / f"large-{number}", LARGE_BYTES)

    def change(self, share: float) -> None:
        """Write this share of the files anew, delete and move some, and insert something into a large one."""
        rng = self._rng
        for _ in range(round(self._small * share)):
            self._write(self._small_file(rng.randrange(self._small)), SMALL_BYTES)
        for _ in range(max(round(self._large * share), 1)):
            self._write(self.root / f"large-{rng.randrange(self._large)}", LARGE_BYTES)
        for _ in range(round(self._small * share / 4)):
            self._small_file(rng.randrange(self._small)).unlink(missing_ok=True)
        grown = self.root / f"large-{rng.randrange(self._large)}"
        content, at = grown.read_bytes(), rng.randrange(SMALL_BYTES[0])
        grown.write_bytes(content[:at] + rng.randbytes(INSERTED_BYTES) + content[at : LARGE_BYTES[1]])
        self._move_directory()
        link = self.root / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(f"large-{rng.randrange(self._large)}")

    def _move_directory(self) -> None:
        directories = sorted(path for path in self.root.iterdir() if path.is_dir())
        moved = self.root / f"moved-{self._rng.randrange(3)}"
        if moved in directories:
            shutil.rmtree(moved)
            directories.remove(moved)
        os.rename(self._rng.choice(directories), moved)

    def _small_file(self, number: int) -> Path:
        return self.root / f"directory-{number // FILES_PER_DIRECTORY}" / f"small-{number}"

    def _write(self, path: Path, sizes: tuple[int, int]) -> None:
        content = random.Random(self._rng.randrange(self._contents))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.randbytes(content.randint(*sizes)))
