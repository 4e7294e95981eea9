"""``recbole-mm prepare`` from a checkout; ``--help`` says what it does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recbole_mm.__main__ import run

if __name__ == "__main__":
    run("prepare")
