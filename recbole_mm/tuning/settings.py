"""How trials are drawn and run."""

from typing import NamedTuple

from recbole_mm.config.errors import ConfigError

ALGORITHMS = ("bayes", "random", "exhaustive")
TOOLS = ("optuna", "hyperopt", "ray")
PRUNERS = ("median", "asha", "none")


class SearchSettings(NamedTuple):
    """How trials are drawn and run.

    Attributes:
        algorithm: ``bayes``, ``random`` or ``exhaustive`` (the whole grid, whatever the budget).
        budget: number of trials.
        patience: number of trials without a better one after which ``random`` and ``bayes`` stop;
            ``None``: never.
        seed: seed of the draws.
        tool: ``optuna`` runs trials in parallel on this machine, ``ray`` on a cluster, ``hyperopt``
            one after another by RecBole's HyperTuning.
        jobs: number of concurrent trials; ``None``: one per GPU or core.
        pruner: pruner of trials that lag behind: ``median``, ``asha`` or ``none``.
    """

    algorithm: str = "bayes"
    budget: int = 20
    patience: int | None = None
    seed: int = 2020
    tool: str = "optuna"
    jobs: int | None = None
    pruner: str = "median"


def check_settings(settings: SearchSettings) -> None:
    """Refuse settings that are unknown or exclude each other.

    Raises:
        ConfigError: the message names the option.
    """
    for name, known in (("algorithm", ALGORITHMS), ("tool", TOOLS), ("pruner", PRUNERS)):
        value = getattr(settings, name)
        if value not in known:
            raise ConfigError(f"--{name}={value}: must be one of {', '.join(known)}")
    if settings.tool == "hyperopt" and settings.jobs is not None:
        raise ConfigError("--jobs needs --tool=optuna or ray: hyperopt runs trials one by one")
    for name in ("budget", "patience"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name}={value}: give a number >= 1")
