"""RecBole's own tests with this package imported first, and without it.

    python benchmarks/recbole_suite.py FOLDER

FOLDER is a checkout of RecBole 1.2.1, whose tests are not in its wheel. It prints one line per group
of tests: how many pass and fail with plain RecBole, and how many after ``import recbole_mm``.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

GROUPS = {
    "sequential models": ["tests/model/test_model_auto.py", "-k", "Sequential"],
    "metrics": ["tests/metrics"],
    "data": ["tests/data"],
    "evaluation settings": ["tests/evaluation_setting"],
    "configuration": ["tests/config"],
    "tuning": ["tests/hyper_tuning"],
}


def count(folder: Path, arguments: list[str], patched: bool) -> tuple[int, int]:
    """Numbers of tests that pass and that do not."""
    plugin = ["-p", "recbole_mm"] if patched else []
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *plugin, *arguments]
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    found = dict.fromkeys(("passed", "failed", "error", "errors"), 0)
    last = done.stdout.strip().splitlines()[-1:] or [""]
    found |= {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last[0])}
    return found["passed"], found["failed"] + found["error"] + found["errors"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a checkout of RecBole 1.2.1")
    folder = parser.parse_args().folder
    if not (folder / "tests").is_dir():
        parser.error(f"{folder} has no folder tests/; give a checkout of RecBole 1.2.1")
    print(f"{'':22}{'plain RecBole':>18}{'with recbole_mm':>18}   (passed / not passed)")
    for name, arguments in GROUPS.items():
        cells = [f"{a} / {b}" for a, b in (count(folder, arguments, p) for p in (False, True))]
        print(f"{name:22}{cells[0]:>18}{cells[1]:>18}", flush=True)


if __name__ == "__main__":
    main()
