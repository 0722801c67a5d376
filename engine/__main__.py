"""`python -m engine`."""

import sys

from engine.cli import main
from engine.lifeline import collect_seldom

if __name__ == "__main__":
    collect_seldom()
    sys.exit(main())
