"""Interruption of our processes: by Ctrl-C (SIGINT), or by SIGTERM, which containers send.

Both raise an exception in the main thread, so that the work stops there and cleans up.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from recbole_mm.tools.imports import AroundImport
from recbole_mm.tools.variables import is_one_of_several

INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses: 128 plus the number of the signal."""
LONGEST_IMPORT = 30.0
"""Maximum seconds that an import may delay an interruption."""
PAUSE = 0.02
"""Seconds between two checks of whether an import has ended."""
UNSEEN = 1.0
"""Seconds after which a signal is sent again if the main thread has not seen it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM has asked this process to end; everything that handles Ctrl-C handles it too."""


def take_over() -> None:
    """Let SIGINT and SIGTERM end the work of this process, regardless of what it imports.

    Call it in the main thread of a process that runs one command. A signal that was ignored when
    the process started (``nohup``, ``&`` in a script) remains ignored. Under torchrun, SIGTERM ends
    the process immediately: it may be waiting in a collective operation for a process that is gone.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Raise(KeyboardInterrupt))
        if hasattr(signal, "siginterrupt"):
            AroundImport.install("polars", _waits_still_end)
    if not is_one_of_several() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _Raise(Terminated))


def let_go() -> None:
    """Let signals end the process immediately from now on, since its work is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if isinstance(signal.getsignal(number), _Raise):
            signal.signal(number, signal.SIG_DFL)


def ending(error: KeyboardInterrupt) -> tuple[int, str]:
    """Exit status and message of an interrupted command."""
    is_terminated = isinstance(error, Terminated)
    status, word = (TERMINATED, "terminated") if is_terminated else (INTERRUPTED, "interrupted")
    return status, f"{word}: {error}" if str(error) else word


@contextmanager
def leaving(what: Callable[[], str]) -> Iterator[None]:
    """Add a description of what remains to an interruption within the block.

    Args:
        what: function called on interruption that returns a sentence for the message.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (what(),)
        raise


class _Raise:
    """A signal handler that raises, but not within an import.

    How an import handles an exception depends on what is imported: some libraries lose it, others
    raise a different one. It is raised as soon as the import has ended.

    Args:
        error: class of the exception.
    """

    def __init__(self, error: type[KeyboardInterrupt]):
        self.error = error
        self._since: float | None = None
        self._seen = threading.Event()

    def __call__(self, number: int, frame) -> None:
        self._seen.set()
        now = time.monotonic()
        is_first = self._since is None
        since = now if self._since is None else self._since
        if is_importing(frame) and now - since < LONGEST_IMPORT:
            self._since = since
            if is_first:
                threading.Thread(target=self._repeat, args=[number], daemon=True).start()
            return
        self._since = None
        raise self.error

    def _repeat(self, number: int) -> None:
        """Send the signal again until it has been raised: a signal that arrives right before a
        system call does not end the call, so the main thread would not see it."""
        while self._since is not None:
            time.sleep(PAUSE)
            self._seen.clear()
            _send_to_main_thread(number)
            self._seen.wait(UNSEEN)


def _send_to_main_thread(number: int) -> None:
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def is_importing(frame) -> bool:
    """Whether a frame, or one that called it, executes an import statement."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _waits_still_end() -> Iterator[None]:
    """Let SIGINT end waits again after the import of polars.

    polars installs a handler with SA_RESTART, with which the system resumes an interrupted wait
    before Python learns of the signal (https://github.com/pola-rs/polars/issues/21739). The handler
    itself is kept: it ends queries.
    """
    yield
    signal.siginterrupt(signal.SIGINT, True)
