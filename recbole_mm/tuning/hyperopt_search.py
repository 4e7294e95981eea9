"""A search by RecBole's HyperTuning: hyperopt draws the trials, one after another."""

from recbole.trainer import HyperTuning

from recbole_mm.config.plain import to_plain
from recbole_mm.tools.variables import environment
from recbole_mm.tuning.objective import Objective
from recbole_mm.tuning.settings import SearchSettings
from recbole_mm.tuning.trials import Trials

SEED_VARIABLE = "HYPEROPT_FMIN_SEED"


def run_by_hyperopt(trials: Trials, objective: Objective, settings: SearchSettings) -> None:
    """Draw and run the trials; the same seed gives the same trials, and known ones are looked up.

    No trial is pruned: RecBole's HyperTuning needs a score of every trial. A failed one has the
    worst score.
    """

    def result_of(params: dict, _files=None) -> dict:
        point = trials.whole_numbers(to_plain(params))
        outcome = trials.known(point) or trials.run(trials.start(point), objective)
        score = outcome.score
        return {
            "model": objective.fixed["model"],
            "best_valid_score": (0.0 if trials.bigger else 1e9) if score is None else score,
            "valid_score_bigger": trials.bigger,
            "best_valid_result": {k: v for k, v in outcome._asdict().items() if v is not None},
            "test_result": None,
        }

    search = HyperTuning(
        result_of,
        params_dict=trials.space,
        algo=settings.algorithm,
        max_evals=settings.budget,
        early_stop=settings.patience or settings.budget,
    )
    if settings.algorithm == "exhaustive":
        from hyperopt.early_stop import no_progress_loss

        search.early_stop_fn = no_progress_loss(int(search.max_evals))  # a grid runs to its end
    with environment({SEED_VARIABLE: str(settings.seed)}):
        search.run()
