"""RecBole's run functions in a module of ours, so that a spawned process registers our models.

A function is pickled as its module's name and its own. With ``__module__`` pointing here, a process
that unpickles ``recbole.quick_start.run_recboles`` imports :mod:`recbole_mm` first.
"""

import functools
import sys

from recbole_mm.integration.lookup import QUICK_START, RUN_FUNCTIONS
from recbole_mm.integration.ray_tune import Tune
from recbole_mm.tools.errors import UserError, first_line

if QUICK_START not in sys.modules:
    import recbole.quick_start  # noqa: F401


def _naming_the_file(load):
    """Wrap ``load_data_and_model`` so that any failure is an error that names the file."""

    @functools.wraps(load)
    def load_data_and_model(model_file):
        try:
            return load(model_file)
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            raise
        except UserError as error:
            if str(model_file) in str(error):
                raise
            raise type(error)(f"{model_file}: {error}") from error
        except Exception as error:  # torch, pickle and RecBole may raise anything
            raise UserError(
                f"{model_file}: cannot be opened as a checkpoint with its data set: it is damaged, "
                f"or one of the two has changed since ({type(error).__name__}: {first_line(error)})"
            ) from error

    return load_data_and_model


sys.modules[QUICK_START].tune = Tune  # type: ignore[attr-defined]  in case it was imported first
for _name in RUN_FUNCTIONS:
    _function = getattr(sys.modules[QUICK_START], _name)
    if _name == "load_data_and_model":
        _function = _naming_the_file(_function)
        for _module in (QUICK_START, QUICK_START.rpartition(".")[0]):
            setattr(sys.modules[_module], _name, _function)
    _function.__module__ = __name__
    globals()[_name] = _function
