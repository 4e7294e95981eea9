"""The ways to start on a target that a report compares, as stages of one run."""

from typing import NamedTuple

from recbole.utils import get_model

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import read_layers
from recbole_mm.config.stages import LEAVE_ONE_OUT, stage_overlays
from recbole_mm.run.stages import Stage, plan_stages
from recbole_mm.transfer_report.settings import ALL, Condition, Settings

SCRATCH = "scratch"
UNFROZEN = "unfrozen"
TRAINED = (SCRATCH, "frozen", UNFROZEN)
"""Starts that are trained on the target."""

NOT_TRAINED = ("zero-shot", "untrained")
"""Starts that are tested without training on the target, and without IDs."""

WITH_NEIGHBORS = {start: f"{start} with neighbors" for start in NOT_TRAINED}
"""The same starts with the scores of the nearest neighbors added."""

STARTS = (*TRAINED, *NOT_TRAINED)

WITHOUT_TRAINING: dict = {
    "epochs": 0, "freeze": [], "lora_rank": 0, "group_learning_rates": {}, "no_weight_decay": [], "sparse_id_updates": False,
    "use_item_id": False,
}  # fmt: skip
FROM_SCRATCH: dict = {
    "pre_model_path": None, "reset": [], "allow_fewer_layers": False, "lora_rank": 0,
    "group_learning_rates": {},
}  # fmt: skip
WITH_ID, WITHOUT_ID = " with ID", " without ID"
OF_THE_REPORT = ("seed", LEAVE_ONE_OUT)
"""Keys of the command line that are not passed to every stage."""


class Trial(NamedTuple):
    """One stage of the study.

    Attributes:
        target: name of the target, or of the pre-training.
        start: one of :data:`STARTS`, or the model that is pre-trained.
        condition: part of the target that is used for training.
        learning_rate: learning rate; ``None``: the configured one.
        overlay: overlay of the stage.
    """

    target: str
    start: str
    condition: Condition
    learning_rate: float | None
    overlay: dict

    @property
    def is_pretraining(self) -> bool:
        return self.start not in STARTS

    @property
    def text(self) -> str:
        """Description for messages."""
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        return f"{self.target}, {self.start}, {self.condition.text}{rate}"


def find_trials(settings: Settings) -> list[Trial]:
    """Every stage of the study, with the configured epochs; a pretrain stage comes before those that
    start from it.

    Raises:
        ConfigError: see :func:`variant_stages`.
    """
    trials = []
    rates: list[float | None] = [*settings.learning_rates] or [None]
    for (target, start), overlay in variant_stages(
        settings.config_files, settings.overrides
    ).items():
        trained = start in TRAINED
        for condition in settings.conditions if start in STARTS else [ALL]:
            if start in NOT_TRAINED and condition.train_users < 1:
                continue  # the same as with all users
            for rate in rates if trained else [None]:
                changes = condition.overlay | ({} if rate is None else {"learning_rate": rate})
                trials.append(Trial(target, start, condition, rate, overlay | changes))
    return trials


def plan(trials: list[Trial], settings: Settings, seed: int) -> list[Stage]:
    """The stages of trials with one seed, in the same order."""
    stages = {"stages": [trial.overlay for trial in trials], LEAVE_ONE_OUT: None}
    return plan_stages(
        config_files=settings.config_files, config_dict=stages, overrides={"seed": seed}
    )


def variant_stages(config_files, overrides: dict) -> dict[tuple[str, str], dict]:
    """The stages of a report: the overlay of each, by target and start, in order.

    The keys that define a start take precedence over ``overrides``: ``--epochs=30`` does not train
    the zero-shot start. Several stages on one target are distinguished by their numbers in the
    file.

    Raises:
        ConfigError: no finetune stage starts from a pre-trained model, or one that does sets a key that
            the report varies itself.
    """
    planned = plan_stages(config_files=config_files, overrides=overrides)
    overlays = stage_overlays({**read_layers(config_files), **overrides})
    given = {key: value for key, value in overrides.items() if key not in OF_THE_REPORT}
    stages: dict[tuple[str, str], dict] = {}
    origins: dict[tuple[str, str], object] = {}
    transferred = False
    for number, (stage, overlay) in enumerate(zip(planned, overlays, strict=True), 1):
        config = stage.config
        if config["train_stage"] == "pretrain":
            name = f"{config['model']}, {config['dataset']} (pre-training)"
            if (name, config["model"]) in stages:
                name = f"{name} (stage {number})"
            stages[name, config["model"]] = {**overlay, **given}
            continue
        if stage.source is None and not config["pre_model_path"]:
            continue  # a control that the file lists itself
        transferred = True
        _refuse_conditions(config)
        _refuse_no_training(config)
        origin = config["pre_model_path"] or stage.source
        starts = {start: {**overlay, **given, **new} for start, new in _changes(config).items()}
        name = f"{config['model']}, {config['dataset']}"
        keys = _keys(name, config["use_item_id"])
        if any(
            key in stages and (stages[key], origins[key]) != (starts[key[1]], origin)
            for key in keys
        ):
            keys = _keys(f"{name} (stage {number})", config["use_item_id"])
        for key in keys:
            stages[key], origins[key] = starts[key[1]], origin
    if not transferred:
        raise ConfigError(
            f"{', '.join(map(str, config_files))}: no finetune stage starts from a pre-trained "
            f"model: put a pretrain stage above it, or give it pre_model_path"
        )
    return stages


def _changes(config) -> dict[str, dict]:
    """The keys that define each start; scratch is validated before it is trained if the others are."""
    start = {"validate_start": config["validate_start"] is not False}
    frozen = config["freeze"] or list(get_model(config["model"]).encoder_parameters)
    return {
        SCRATCH: {**FROM_SCRATCH, **start, "freeze": []},
        "frozen": {"freeze": frozen, "lora_rank": 0},
        UNFROZEN: {"freeze": []},
        "zero-shot": WITHOUT_TRAINING,
        "untrained": {**FROM_SCRATCH, **WITHOUT_TRAINING},
    }


def without_id_setting(target: str) -> str:
    """The name of a target for the starts that are not trained on it."""
    return target.removesuffix(WITH_ID).removesuffix(WITHOUT_ID)


def _keys(name: str, use_item_id: bool) -> list[tuple[str, str]]:
    """Target and start of every start; those that are not trained have no ID."""
    trained = name + (WITH_ID if use_item_id else WITHOUT_ID)
    return [(name if start in NOT_TRAINED else trained, start) for start in STARTS]


def _refuse_no_training(config) -> None:
    if config["epochs"] == 0:
        raise ConfigError(
            f"epochs: 0 in the stage on {config['dataset']}: a start from the pre-trained model "
            f"must be trained there; zero-shot and untrained are in every report. Give epochs >= 1"
        )


def _refuse_conditions(config) -> None:
    for key, option in (("train_users", "--sizes"), ("held_out_items", "--new_items")):
        if config[key] != getattr(ALL, key):
            raise ConfigError(
                f"{key}: {config[key]} in the stage on {config['dataset']}: remove it and give "
                f"{option}, which compares all starts under it"
            )
