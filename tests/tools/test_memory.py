import subprocess
import sys

import psutil
import pytest

from recbole_mm.tools.memory import peak_memory

PROGRAM = """
import resource, statistics, sys, torch
if sys.argv[1] == "keep":
    from recbole_mm.tools.memory import keep_freed_memory
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
x = torch.ones(9_000_000)
def step():
    products = [x + 1 for _ in range(4)]
    return [product + 1 for product in products]
for _ in range(8):
    step()
counts = [faults()]
for _ in range(5):
    step()
    counts.append(faults())
# the heap may still grow in a step, once: torch's aligned blocks leave gaps between them
print(statistics.median(b - a for a, b in zip(counts, counts[1:])))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_memory_that_is_kept_is_not_faulted_in_again():
    def faults(mode):
        command = [sys.executable, "-c", PROGRAM, mode]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < faults("return") / 10


def test_the_peak_is_at_least_what_the_process_has_now():
    assert peak_memory() >= psutil.Process().memory_info().rss * 0.9


def test_without_the_module_resource_the_peak_is_that_of_psutil(monkeypatch):
    class Process:
        def memory_info(self):
            return type("pmem", (), {"rss": 5, "peak_wset": 7})

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(psutil, "Process", Process)

    assert peak_memory() == 7
