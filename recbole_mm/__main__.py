"""``python -m recbole_mm``, and ``torchrun -m recbole_mm`` for several processes."""

import sys

from recbole_mm.cli import main

if __name__ == "__main__":
    sys.exit(main())
