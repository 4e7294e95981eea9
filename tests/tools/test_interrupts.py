"""Ctrl-C and SIGTERM end a process in one line, whatever it imports and waits for."""

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from recbole_mm.tools import interrupts
from recbole_mm.tools.interrupts import Terminated, ending, is_importing, leaving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals between processes")
SECONDS = 300  # only a broken test takes as long


def run(program: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)


@pytest.mark.parametrize(
    "wait",
    [
        "child.wait()",
        "threading.Event().wait()",
        "queue.Queue().get()",
        "os.read(child.stdout.fileno(), 1)",
    ],
)
def test_ctrl_c_ends_a_wait_after_polars_is_imported(wait):
    done = run(f"""
        import os, queue, signal, subprocess, sys, threading
        from recbole_mm.tools.interrupts import take_over

        take_over()
        import polars

        ask = "import os, signal, sys, time; time.sleep(1); os.kill({{}}, signal.SIGINT); sys.stdin.read()"
        child = subprocess.Popen(
            [sys.executable, "-c", ask.format(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            {wait}
        except KeyboardInterrupt:
            print("ended, the child lives:", child.poll() is None)
            child.kill()
    """)

    assert done.stdout == "ended, the child lives: True\n", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's sigaction")
def test_polars_keeps_its_handler_which_ends_queries():
    done = run("""
        import ctypes, signal
        from recbole_mm.tools.interrupts import take_over

        def handler():
            action = (ctypes.c_void_p * 32)()
            ctypes.CDLL(None).sigaction(int(signal.SIGINT), None, ctypes.byref(action))
            return action[0]

        before = handler()
        take_over()
        python = handler()
        import polars
        print(handler() not in (before, python))
    """)

    assert done.stdout == "True\n", done.stderr


def test_a_module_that_loses_exceptions_does_not_lose_an_interruption(tmp_path):
    (tmp_path / "loses.py").write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    for _ in range(10**5): pass\n"
        "except BaseException:\n    print('lost')\n",
        encoding="utf-8",
    )
    done = run(f"""
        import sys, time
        from recbole_mm.tools.interrupts import take_over

        take_over()
        sys.path.insert(0, {str(tmp_path)!r})
        try:
            import loses
            time.sleep({SECONDS})
        except KeyboardInterrupt:
            print("interrupted")
    """)

    assert done.stdout == "interrupted\n", done.stderr


def test_an_interruption_that_is_not_seen_is_sent_again(monkeypatch):
    """As a signal that comes right before a system call."""
    handler, sent, raised = interrupts._Raise(KeyboardInterrupt), [], threading.Event()

    def send(number):
        sent.append(number)
        if len(sent) == 3:
            with pytest.raises(KeyboardInterrupt):
                handler(number, None)
            raised.set()

    monkeypatch.setattr(interrupts, "UNSEEN", 0.01)
    monkeypatch.setattr(interrupts, "_send_to_main_thread", send)
    monkeypatch.setattr(interrupts, "is_importing", lambda frame: frame is not None)

    handler(signal.SIGINT, sys._getframe())

    assert raised.wait(SECONDS)
    assert sent == [signal.SIGINT] * 3


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "terminated"),
    ],
)
@pytest.mark.parametrize("module", ["recbole_mm.tools.names", "recbole_mm.prepare.formats"])
def test_a_signal_while_modules_are_imported_is_one_line(name, status, message, module, tmp_path):
    (tmp_path / "endless.py").write_text(
        f"import {module}, time\ndef main(_):\n    time.sleep({SECONDS})\n", encoding="utf-8"
    )
    done = run(f"""
        import os, signal, sys

        class Interrupts:
            def find_spec(self, name, *_):
                if name == {module!r}:
                    os.kill(os.getpid(), signal.{name})

        sys.meta_path.insert(0, Interrupts())
        sys.path.insert(0, {str(tmp_path)!r})
        sys.argv[1:] = ["endless"]
        from recbole_mm import commands
        commands.COMMANDS["endless"] = commands.Command("endless", "")
        from recbole_mm.__main__ import run
        run()
    """)

    assert done.returncode == status
    assert done.stderr.splitlines() == [f"recbole-mm: error: {message}"]


def test_a_signal_that_the_process_was_started_without_stays_ignored():
    done = run("""
        import os, signal
        from recbole_mm.tools.interrupts import take_over

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        take_over()
        os.kill(os.getpid(), signal.SIGINT)
        print("goes on")
    """)

    assert done.stdout == "goes on\n"


def test_torchrun_ends_its_processes_at_once():
    done = run("""
        import os, signal
        from recbole_mm.tools.interrupts import take_over

        os.environ |= {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}
        take_over()
        print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """)

    assert done.stdout == "True\n"


def test_statuses_are_those_of_a_shell():
    assert ending(KeyboardInterrupt()) == (130, "interrupted")
    assert ending(Terminated()) == (143, "terminated")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyboardInterrupt, "interrupted: a half is kept"),
        (Terminated, "terminated: a half is kept"),
    ],
)
def test_an_interruption_says_what_it_leaves(error, message):
    with pytest.raises(error) as raised, leaving(lambda: "a half is kept"):
        raise error

    assert ending(raised.value)[1] == message


def test_a_frame_is_within_an_import_or_not():
    assert not is_importing(sys._getframe())
