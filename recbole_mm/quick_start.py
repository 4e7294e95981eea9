"""The functions that run a configuration, in the module where RecBole users expect them."""

from recbole_mm.run.run import fit_and_evaluate, objective_function, run
from recbole_mm.run.stages import run_stages

__all__ = ["fit_and_evaluate", "objective_function", "run", "run_stages"]
