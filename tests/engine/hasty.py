"""The engine with small packs and an index file at every moment, so that a second has what else takes a backup of hours."""

import sys

from engine import packer, writer
from engine.cli import main

packer.PACK_SIZE = 128 << 10
writer.INDEX_EVERY_S = 0.1

if __name__ == "__main__":
    sys.exit(main())
