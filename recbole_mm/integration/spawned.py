"""RecBole's run functions under a name of ours, so that a spawned process registers our models.

A function is pickled as its module's name and its own. With ``__module__`` pointing here, the
process that unpickles ``recbole.quick_start.run_recboles`` imports :mod:`recbole_mm` first.
"""

import sys

from recbole_mm.integration.lookup import QUICK_START

_FUNCTIONS = ("run", "run_recbole", "run_recboles", "objective_function", "load_data_and_model")

if QUICK_START not in sys.modules:
    import recbole.quick_start  # noqa: F401

for _name in _FUNCTIONS:
    _function = getattr(sys.modules[QUICK_START], _name)
    _function.__module__ = __name__
    globals()[_name] = _function
