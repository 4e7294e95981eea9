"""The log of a run: RecBole's file and console, one run after another in a process."""

import logging

from recbole.utils import init_logger

from recbole_mm.tools import processes
from recbole_mm.tools.files import require_writable

PRINTED = "printed"
"""Marks a record that the console already has from stdout."""

_handlers: list[logging.Handler] = []


def start_logging(config) -> None:
    """Log into RecBole's file and console, in place of those of the run before.

    Raises:
        UserError: a folder that the run writes to cannot be written.
    """
    tensorboard = ["log_tensorboard"] if config["tracker"] == "tensorboard" else []
    for folder in ("log", *tensorboard, config["checkpoint_dir"]):
        require_writable(
            folder,
            "Start in another folder (log/, log_tensorboard/ and saved/ are written to the working "
            "directory) or give --checkpoint_dir=FOLDER",
        )
    root = logging.getLogger()
    if not processes.is_first():
        config["show_progress"] = False
        root.setLevel(logging.ERROR)
        return
    for handler in _handlers:
        root.removeHandler(handler)
        handler.close()
    before = list(root.handlers)
    init_logger(config)
    _handlers[:] = [handler for handler in root.handlers if handler not in before]
    for handler in _handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not hasattr(record, PRINTED))
