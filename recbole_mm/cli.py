"""The command line, as ``recbole-mm`` and as ``python run_recbole_mm.py``.

Only the command that is asked for is imported: help and mistakes need neither RecBole nor torch.
"""

import importlib
import sys
import traceback

from recbole_mm import __version__
from recbole_mm.commands import COMMANDS
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.names import nearest

OK, RUN_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments=None) -> int:
    """Run a command.

    Args:
        arguments: list of strings, default ``sys.argv[1:]``.

    Returns:
        The exit status, which is 0 when done, 1 when the run failed (full disk, a loss that is not
        a number, ...), 2 for wrong usage, configuration or data, and 130 when interrupted. Any
        other failure is raised.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        return _run([argument for argument in arguments if argument != "--debug"])
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted; finished work is kept", debug)
    except UserError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except (OSError, RunFailed) as error:
        return _fail(RUN_FAILED, str(error), debug)
    finally:
        processes = sys.modules.get("recbole_mm.tools.processes")
        if processes is not None:
            processes.stop()


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
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
    return importlib.import_module(COMMANDS[name].module).main(rest) or OK


def _fail(status: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"recbole-mm: error: {message}", file=sys.stderr)
    return status
