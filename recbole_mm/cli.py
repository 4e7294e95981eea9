"""The command line, as ``recbole-mm`` and as ``python run_recbole_mm.py``.

Only the requested command is imported: help and usage errors need neither RecBole nor torch.
"""

import importlib
import os
import sys
import traceback
from types import ModuleType

from recbole_mm import __version__
from recbole_mm.commands import COMMANDS
from recbole_mm.config.errors import UnknownKey
from recbole_mm.tools.command_lines import near_options
from recbole_mm.tools.errors import RunFailed, UserError, first_line, is_lack_of_memory
from recbole_mm.tools.extras import unfit_package
from recbole_mm.tools.interrupts import ending
from recbole_mm.tools.names import nearest

OK, RUN_FAILED, BAD_INPUT, BUG = 0, 1, 2, 70
UNREAD = 141
"""A shell's exit status for a command that SIGPIPE ended."""

OUT_OF_MEMORY = (
    "out of memory: lower train_batch_size, eval_batch_size, MAX_ITEM_LIST_LENGTH or hidden_size"
)


def main(arguments=None) -> int:
    """Run a command.

    Args:
        arguments: list of strings, by default ``sys.argv[1:]``.

    Returns:
        The exit status, which is 0 when done, 1 if the run failed (full disk, too little memory,
        a loss that is not a number, ...), 2 for wrong usage, configuration or data, 130 after
        Ctrl-C, 141 if nobody reads the output anymore (``| head``), 143 after SIGTERM, and 70
        after any other failure, which is a bug and shows its traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        return _run([argument for argument in arguments if argument != "--debug"])
    except BrokenPipeError as error:
        return UNREAD if _is_unread() else _fail(RUN_FAILED, str(error), debug)
    except KeyboardInterrupt as error:
        return _fail(*ending(error), debug)
    except UserError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except (OSError, RunFailed) as error:
        return _fail(RUN_FAILED, str(error), debug)
    except Exception as error:  # noqa: BLE001 a bug of any type, or an unfit package
        if isinstance(error, ImportError) and (package := unfit_package(error)):
            return _fail(BAD_INPUT, _unfit(package, error), debug)
        if is_lack_of_memory(error):
            return _fail(RUN_FAILED, f"{OUT_OF_MEMORY} ({first_line(error)})", debug)
        _close_progress_bars()
        traceback.print_exc()
        return _fail(BUG, _request_to_report(error), debug=False)
    finally:
        processes = sys.modules.get("recbole_mm.tools.processes")
        if processes is not None:
            processes.stop()


def _is_unread() -> bool:
    """Whether the reader of our output is gone; if so, nothing more is written, not even at
    exit."""
    try:
        print(flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _unfit(package: str, error: ImportError) -> str:
    return (
        f"{package} cannot be imported here: {first_line(error)}. Install what is missing, or "
        f"compatible versions such as those in constraints.txt; `recbole-mm doctor` lists yours"
    )


def _request_to_report(error: Exception) -> str:
    from importlib.metadata import PackageNotFoundError, metadata, version

    versions = [f"recbole-mm {__version__}", f"Python {sys.version.split()[0]}"]
    for package in ("recbole", "torch", "numpy", "pandas", "polars"):
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} is not installed")
    try:
        urls = metadata("recbole_mm").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    trackers = [url.partition(", ")[2] for url in urls if url.startswith(("Issues", "Repository"))]
    return (
        f"{type(error).__name__}: {first_line(error)}\nThis is a bug in recbole-mm, not your "
        f"mistake. Please report it to {trackers[0] if trackers else 'the maintainers'} with your "
        f"command, the lines above and the output of `recbole-mm doctor`. Versions: {', '.join(versions)}"
    )


def _run(arguments: list[str]) -> int:
    try:
        return _run_command(arguments or ["--help"])
    finally:
        print(end="", flush=True)


def _run_command(arguments: list[str]) -> int:
    first = arguments[0]
    if first == "--version":
        print(f"recbole-mm {__version__}")
        return OK
    if first in COMMANDS:
        name, rest = first, arguments[1:]
    elif first.startswith("-"):
        name, rest = "train", arguments
    else:
        near = nearest(first, COMMANDS)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"unknown command {first!r}: {hint}The commands are {', '.join(COMMANDS)}; to train a "
            f"model write recbole-mm --model=MODEL --dataset=DATASET"
        )
    module = importlib.import_module(COMMANDS[name].module)
    try:
        return module.main(rest) or OK
    except UnknownKey as error:
        if options := _meant_options(module, error.key, rest):
            raise UnknownKey("command line", error.key, [*options, *error.near]) from error
        raise


def _meant_options(module: ModuleType, key: str, arguments: list[str]) -> list[str]:
    """Options of a command that are similar to an unknown key given on the command line."""
    given = {argument.partition("=")[0] for argument in arguments}
    parser = getattr(module, "_parser", None)
    return near_options(parser(), key) if parser and f"--{key}" in given else []


def _close_progress_bars() -> None:
    """Close progress bars so that the next output starts on a new line."""
    tqdm = sys.modules.get("tqdm")
    for bar in list(getattr(tqdm.tqdm, "_instances", ())) if tqdm else ():
        bar.close()


def _fail(status: int, message: str, debug: bool) -> int:
    _close_progress_bars()
    if debug:
        traceback.print_exc()
    print(f"recbole-mm: error: {message}", file=sys.stderr)
    return status
