"""Processes that this one starts and waits for, and that end with it, no matter how it ends.

A child's standard input is a pipe that carries no data. Every operating system closes it when the
parent is gone, killed or not; a child that calls :func:`end_with_parent` then ends.
"""

import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import IO

ORPHANED = 75
"""Exit status of a child whose parent is gone."""
SECONDS_TO_END = 10
"""Grace period before a child that was asked to end is killed."""
SECONDS_BETWEEN_SIGNALS = 0.5
"""Longest wait of the main thread, since Ctrl-C does not end a wait on Windows."""


def end_with_parent() -> None:
    """End this process immediately when the one that started it by :class:`Children` is gone."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(ORPHANED)

    threading.Thread(target=watch, daemon=True).start()


class Children:
    """A context whose child processes end with it. Threads may share it."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self):
        return self

    def run(
        self,
        command: list[str],
        output: IO[bytes],
        environment: Mapping[str, str],
        seconds: float,
        meanwhile: Callable[[], None],
    ) -> int:
        """Run a command and return its exit status, negative for a signal.

        Args:
            command: program and arguments.
            output: file for its standard output and error.
            environment: its environment variables.
            seconds: time between two calls of ``meanwhile``.
            meanwhile: function called while it runs.

        Raises:
            concurrent.futures.CancelledError: the context was already left.
        """
        process = self._start(command, output, environment)
        try:
            while True:
                try:
                    return process.wait(seconds)
                except subprocess.TimeoutExpired:
                    meanwhile()
        finally:
            self._running.discard(process)
            if process.stdin is not None:
                process.stdin.close()

    def _start(
        self, command: list[str], output: IO[bytes], environment: Mapping[str, str]
    ) -> subprocess.Popen:
        with self._lock:
            if self._is_closed:
                raise CancelledError
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )
            self._running.add(process)
        return process

    def __exit__(self, *_) -> None:
        with self._lock:
            self._is_closed = True
            left = list(self._running)
        for process in left:
            process.terminate()
        for process in left:
            try:
                process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def as_completed(futures: Iterable[Future]) -> Iterator[Future]:
    """Yield futures in the order of completion; Ctrl-C ends the wait on every system."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, SECONDS_BETWEEN_SIGNALS, FIRST_COMPLETED)
        yield from done
