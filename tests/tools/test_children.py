"""Child processes end with their parent, however it ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import psutil
import pytest

from recbole_mm.tools.children import ORPHANED, Children, as_completed

SECONDS = 300  # only a broken test takes as long
PROGRAM = """
from recbole_mm.tools.children import end_with_parent

end_with_parent()
print("begun", flush=True)
while True:
    pass
"""
ENDLESS = [sys.executable, "-c", PROGRAM]


def wait_until(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_children_are_gone_when_their_parent_is(tmp_path, name):
    if not hasattr(signal, name) or sys.platform == "win32":
        pytest.skip("signals between processes")
    program = textwrap.dedent(f"""
        import os
        from concurrent.futures import ThreadPoolExecutor
        from recbole_mm.tools.children import Children, as_completed
        from recbole_mm.tools.interrupts import take_over

        take_over()
        import polars
        with open("out.txt", "wb") as output, ThreadPoolExecutor(2) as pool, Children() as children:
            run = (children.run, {ENDLESS!r}, output, os.environ, 0.1, lambda: None)
            for future in as_completed([pool.submit(*run), pool.submit(*run)]):
                print(future.result())
    """)
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: (tmp_path / "out.txt").is_file())
    wait_until(lambda: (tmp_path / "out.txt").read_text(encoding="utf-8").count("begun") == 2)
    children = psutil.Process(parent.pid).children()

    os.kill(parent.pid, getattr(signal, name))

    _, errors = parent.communicate(timeout=SECONDS)
    raised = {"SIGINT": "KeyboardInterrupt", "SIGTERM": "Terminated", "SIGKILL": ""}[name]
    assert raised in errors
    assert len(children) == 2
    assert psutil.wait_procs(children, SECONDS)[1] == []


def test_a_child_whose_input_is_closed_ends():
    child = subprocess.Popen(ENDLESS, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    child.stdin.close()

    assert child.wait(SECONDS) == ORPHANED


def test_the_status_of_a_child_is_returned_and_what_it_prints_is_kept(tmp_path):
    command = [sys.executable, "-c", "import sys; print('é'); sys.exit('why')"]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    calls = []

    with open("out.txt", "wb") as output, Children() as children:
        status = children.run(command, output, environment, 0.01, lambda: calls.append(0))

    assert status == 1
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines() == ["é", "why"]
    assert calls


def test_nothing_starts_after_the_end():
    children = Children()
    children.__exit__()

    with open(os.devnull, "wb") as output, pytest.raises(CancelledError):
        children.run([sys.executable, "-c", ""], output, os.environ, 1, lambda: None)


def test_futures_come_in_the_order_in_which_they_end():
    with ThreadPoolExecutor(2) as pool:
        slow, fast = pool.submit(time.sleep, 0.5), pool.submit(time.sleep, 0)
        assert list(as_completed([slow, fast])) == [fast, slow]
