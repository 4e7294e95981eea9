"""The log of a run in RecBole's file and on the console, for one run after another in a process."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from colorama import initialise
from recbole.utils import init_logger

from recbole_mm.tools import processes
from recbole_mm.tools.files import require_writable

PRINTED = "printed"
"""Attribute that marks a record already shown on the console by stdout."""

_handlers: list[logging.Handler] = []
_least_on_console = logging.NOTSET


@contextmanager
def quiet_console() -> Iterator[None]:
    """Show only warnings on the console for runs that start in the block; their files have all
    records."""
    global _least_on_console
    before, _least_on_console = _least_on_console, logging.WARNING
    try:
        yield
    finally:
        _least_on_console = before


def start_logging(config) -> None:
    """Log to RecBole's file and the console, replacing those of the previous run.

    A program with its own handlers keeps them and only gets the file.

    Raises:
        UserError: a folder that the run writes to cannot be written.
    """
    tensorboard = ["log_tensorboard"] if config["tracker"] == "tensorboard" else []
    for folder in ("log", *tensorboard):
        fix = f"Start in another folder: {folder}/ is always written to the working directory"
        require_writable(folder, fix)
    require_writable(config["checkpoint_dir"], "Give another folder with --checkpoint_dir=FOLDER")
    root = logging.getLogger()
    if not processes.is_first():
        config["show_progress"] = False
        root.setLevel(logging.ERROR)
        return
    for handler in _handlers:
        root.removeHandler(handler)
        handler.close()
    if initialise.wrapped_stdout is sys.stdout:  # by the previous run; avoids a layer per run
        initialise.deinit()
    others, root.handlers = root.handlers, []  # RecBole's basicConfig adds none if there are any
    try:
        init_logger(config)
        files = [each for each in root.handlers if isinstance(each, logging.FileHandler)]
        consoles = [each for each in root.handlers if each not in files and not others]
        _handlers[:] = [*files, *consoles]
    finally:
        root.handlers = [*others, *_handlers]
    for console in consoles:
        console.addFilter(lambda record: not hasattr(record, PRINTED))
        console.setLevel(max(console.level, _least_on_console))
