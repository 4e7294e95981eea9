"""The ways to start on a target that a report compares, as stages of one run."""

from typing import NamedTuple

from recbole.utils import get_model

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import read_layers
from recbole_mm.run.result import Result
from recbole_mm.run.stages import plan_stages, run_stages

NOT_TRAINED = ("zero-shot", "untrained")
"""Starts that are tested without training on the target, and without IDs."""

STARTS = ("scratch", "frozen", "unfrozen", *NOT_TRAINED)

WITHOUT_TRAINING: dict = {
    "epochs": 0, "freeze": [], "group_learning_rates": {}, "no_weight_decay": [], "use_item_id": False,
}  # fmt: skip
FROM_SCRATCH: dict = {"pre_model_path": None, "reset": [], "allow_fewer_layers": False}
WITH_ID, WITHOUT_ID = " with ID", " without ID"
START_KEYS = WITHOUT_TRAINING.keys() | FROM_SCRATCH.keys()


class Variant(NamedTuple):
    """One way to start on one target, and its results, one per seed."""

    target: str
    start: str
    results: list[Result]


def run_variants(config_files, seeds: list[int], overrides: dict) -> list[Variant]:
    """Pre-train and run every variant, for each seed; finished stages are not repeated."""
    stages = variant_stages(config_files, overrides)
    others = {key: value for key, value in overrides.items() if key not in START_KEYS}
    runs = [
        run_stages(
            config_files=config_files,
            config_dict={"stages": list(stages.values())},
            overrides={**others, "seed": seed},
        )
        for seed in seeds
    ]
    return [
        Variant(target, start, [results[number] for results in runs])
        for number, (target, start) in enumerate(stages)
    ]


def variant_stages(config_files, overrides: dict) -> dict[tuple[str, str], dict]:
    """The stages of a report: the overlay of each, by target and start, in order.

    The keys that define a start win over ``overrides``: ``--epochs=30`` does not train what is
    tested zero-shot. Several stages on one target are distinguished by their numbers in the file.

    Raises:
        ConfigError: no finetune stage starts from a pre-trained model.
    """
    planned = plan_stages(config_files=config_files, overrides=overrides)
    overlays = read_layers(config_files)["stages"]
    given = {key: value for key, value in overrides.items() if key in START_KEYS}
    stages: dict[tuple[str, str], dict] = {}
    transferred = False
    for number, (stage, overlay) in enumerate(zip(planned, overlays, strict=True), 1):
        config = stage.config
        if config["train_stage"] == "pretrain":
            name = f"{config['dataset']} (pre-training)"
            if (name, config["model"]) in stages:
                name = f"{name} (stage {number})"
            stages[name, config["model"]] = {**overlay, **given}
            continue
        if stage.source is None and not config["pre_model_path"]:
            continue  # a control that the file lists itself
        transferred = True
        for start, changes in _changes(config).items():
            setting = WITH_ID if config["use_item_id"] else WITHOUT_ID
            if start in NOT_TRAINED:
                setting = ""
            name = f"{config['model']}, {config['dataset']}"
            _add(stages, number, name, setting, start, {**overlay, **given, **changes})
    if not transferred:
        raise ConfigError(
            f"{', '.join(map(str, config_files))}: no finetune stage starts from a pre-trained "
            f"model: put a pretrain stage above it, or give it pre_model_path"
        )
    return stages


def _changes(config) -> dict[str, dict]:
    """The keys that define each start."""
    return {
        "scratch": {**FROM_SCRATCH, "freeze": []},
        "frozen": {
            "freeze": config["freeze"] or list(get_model(config["model"]).encoder_parameters)
        },
        "unfrozen": {"freeze": []},
        "zero-shot": WITHOUT_TRAINING,
        "untrained": {**FROM_SCRATCH, **WITHOUT_TRAINING},
    }


def without_id_setting(target: str) -> str:
    """The name of a target as the starts have it that are not trained on it."""
    return target.removesuffix(WITH_ID).removesuffix(WITHOUT_ID)


def _add(stages: dict, number: int, name: str, setting: str, start: str, overlay: dict) -> None:
    """Add a stage, once; another one of the same name and start gets its number in its name."""
    if stages.get((name + setting, start), overlay) != overlay:
        name = f"{name} (stage {number})"
    stages.setdefault((name + setting, start), overlay)
