"""Starting a model from the parameters of another: strict, with every exception stated."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_mm.config.models import MODELS
from recbole_mm.data.training_data import UNKNOWN, Record, recorded
from recbole_mm.model.abstract_recommender import (
    OF_ONE_DATA_SET,
    OF_ONE_MODALITY,
    OF_SOME_STAGES,
    MultiModalRecommender,
)
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.torch_files import refuse_unusable
from recbole_mm.transfer.authors import FEATURES, import_authors_checkpoint
from recbole_mm.transfer.bundle import is_bundle, read_parameters, what_is_missing
from recbole_mm.transfer.checkpoints import CheckpointError, UnusableCheckpoint, read_checkpoint
from recbole_mm.transfer.feature_match import match_features

SHOWN = 8


class TransferError(UserError):
    """A checkpoint that does not fit the model, or a pattern that matches nothing."""


class Pretrained(NamedTuple):
    """Parameters that a model can start from.

    Attributes:
        state: parameters by our names.
        config: configuration that they were trained with; ``None`` for a released file, which
            does not have it.
        features: facts on the features that they were trained on, by modality; ``None`` if not
            recorded.
        training_data: records of the data that they were trained on
            (:mod:`recbole_mm.data.training_data`).
    """

    state: dict[str, Tensor]
    config: dict | None
    features: dict | None
    training_data: list[Record]


class Transferred(NamedTuple):
    """Names of the transferred parameters, of those of the checkpoint that are not used, and of
    those of the model that keep their initial values; and the records of the checkpoint's training
    data."""

    loaded: list[str]
    left_out: list[str]
    fresh: list[str]
    training_data: tuple[Record, ...] = ()

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} parameters are transferred; not used: {_listing(self.left_out)}; new: "
            f"{_listing(self.fresh)}"
        )


def read_pretrained(path, model: str) -> Pretrained:
    """Read the parameters of one of our checkpoints, a bundle or a file of the papers' authors,
    without executing code.

    Args:
        path: a checkpoint of :class:`~recbole_mm.training.trainer.MultiModalTrainer`, the folder of a
            bundle (:mod:`recbole_mm.transfer.bundle`), or a released file (see
            :func:`~recbole_mm.transfer.authors.import_authors_checkpoint`).
        model: name of the model that is to start from it.

    Raises:
        TransferError: the file does not exist, it is a folder but not a bundle, or it is a
            checkpoint of another model.
        BundleError: the bundle is damaged.
        UnusableCheckpoint: parameters are NaN or infinite.
        AuthorsCheckpointError: the checkpoint is neither ours nor a released one.
    """
    path = Path(path)
    if missing := what_is_missing(path):
        raise TransferError(f"pre_model_path: the checkpoint {str(path)!r} {missing}.")
    features: dict | None
    if is_bundle(path):
        config, state, features, data = read_parameters(path)
        refuse_unusable(state, str(path), TransferError)
    else:
        try:
            checkpoint = read_checkpoint(path)
        except UnusableCheckpoint:
            raise
        except CheckpointError:
            state = import_authors_checkpoint(path, model)
            return Pretrained(state, None, FEATURES[model], [UNKNOWN])
        config, state = checkpoint["config"], checkpoint["state_dict"]
        features = checkpoint.get("features")
        features = features if isinstance(features, dict) else None
        data = recorded(checkpoint.get("training_data"))
    if config["model"] != model:
        raise TransferError(
            f"{path} is a checkpoint of {config['model']} and cannot start a {model}. Give a checkpoint "
            f"of {model}, or leave pre_model_path empty."
        )
    return Pretrained(state, config, features, data)


def refuse_another_function(
    model: type[MultiModalRecommender], trained_with: dict, config, allowed: Iterable[str]
) -> None:
    """Refuse settings with which the same parameters would compute another function.

    Args:
        model: class whose ``function_keys`` must be equal.
        trained_with: configuration of the parameters.
        config: configuration that they are to run with.
        allowed: keys that may differ nevertheless (``allow_changed_keys``).

    Raises:
        TransferError: keys differ; the message has both values.
    """
    unknown = sorted(set(allowed) - set(model.function_keys))
    if unknown:
        raise TransferError(
            f"allow_changed_keys: {unknown} can differ anyway; the keys that must be equal are "
            f"{', '.join(model.function_keys)}."
        )
    changed = [
        f"{key}: {trained_with[key]!r} in the checkpoint, {config[key]!r} here"
        for key in model.function_keys
        if key in trained_with and key not in allowed and trained_with[key] != config[key]
    ]
    if changed:
        raise TransferError(
            f"the pre-trained {model.__name__} would compute something else with these settings: "
            f"{'; '.join(changed)}. Make them equal, or name them in allow_changed_keys."
        )


def refuse_other_features(
    model: MultiModalRecommender, pretrained: Pretrained, fresh: Iterable[str], allowed: bool
) -> None:
    """Refuse features of another encoder than those that a pre-trained model was trained on, since
    they are meaningless to its adapters.

    Modalities whose adapters start from scratch are not compared. Unknown encoders are logged.

    Args:
        model: model that is to start from the parameters.
        pretrained: parameters, with facts on the features that they were trained on.
        fresh: patterns of parameters that keep their initial values.
        allowed: whether to log different features instead of refusing them.

    Raises:
        TransferError: the features of a modality differ.
    """
    names = {
        modality: [name for name in pretrained.state if name.startswith(f"adapters.{modality}.")]
        for modality in model.modalities
    }
    taken = [m for m, own in names.items() if any(not _matches(name, fresh) for name in own)]
    match = match_features(pretrained.features, model.feature_info, taken)
    logger = getLogger()
    for modality, facts in match.unknown.items():
        logger.warning(
            f"pre_model_path: {modality} features by {facts}: cannot check whether they are the "
            f"same. For features of another encoder the pre-trained adapter is meaningless."
        )
    if not match.different:
        return
    others = "; ".join(f"{modality}: {facts}" for modality, facts in match.different.items())
    if allowed:
        logger.warning(f"pre_model_path: other features (allow_other_features: True): {others}")
        return
    patterns = [f"adapters.{modality}.*" for modality in match.different]
    raise TransferError(
        f"its adapters were trained on other features, so its scores would be meaningless: "
        f"{others}. Make the features by the encoder of the checkpoint's (recbole-mm extract DATASET "
        f"--like=NAME; NAME is the data set of the checkpoint as it was in training, or a bundle of its "
        f"model), or train adapters from scratch (reset: {patterns}), or set allow_other_features: True "
        f"to run it anyway."
    )


def load_pretrained(
    model: MultiModalRecommender,
    state: Mapping[str, Tensor],
    reset: Iterable[str] = (),
    allow_fewer_layers: bool = False,
) -> Transferred:
    """Start a model from pre-trained parameters; nothing is dropped unless it is named.

    Every parameter must be in both, with the same shape, except

    - those of one data set (``model.domain_parameters``);
    - the propensity to repeat, if only one of the two has learned it, or they differ in its length;
    - those that ``reset`` names: they keep their initial values;
    - those of modalities that the model's data lack (``model.modality_parameters``);
    - the upper layers of a deeper pre-trained model (``model.layer_stacks``), if allowed.

    Args:
        model: model of this package.
        state: pre-trained parameters, by our names.
        reset: glob patterns of names in the model or in ``state``.
        allow_fewer_layers: whether the model may take the lower layers of a deeper one.

    Raises:
        TransferError: a pattern matches nothing, or parameters differ; the message lists those
            that only the checkpoint has, those that only the model has, and those with different
            shapes. The model is then unchanged.
    """
    own = model.state_dict()
    for pattern in reset:
        _require_match("reset", pattern, [*own, *state], model)
    exempt = (
        *model.domain_parameters,
        *OF_ONE_DATA_SET,
        *_unequal(OF_SOME_STAGES, own, state),
        *reset,
    )
    wanted = {name for name in own if not _matches(name, exempt)}
    given = {name for name in state if not _matches(name, exempt)}
    surplus = given - wanted
    lacked = sorted(modalities_of(state) - set(model.modalities))
    if lacked:
        surplus = {
            name
            for name in surplus
            if not _matches(name, (*model.modality_parameters, *OF_ONE_MODALITY))
        }
    above = {name for name in surplus if _is_above(name, model.layer_stacks, own)}
    if allow_fewer_layers:
        surplus -= above
    shapes = {
        f"{name} {tuple(state[name].shape)} -> {tuple(own[name].shape)}"
        for name in wanted & given
        if state[name].shape != own[name].shape
    }
    if surplus or wanted - given or shapes:
        hint = _other_modalities(model, state)
        if above and not allow_fewer_layers:
            hint += (
                " The checkpoint has more layers: allow_fewer_layers: True takes the lower ones."
            )
        raise TransferError(
            f"the checkpoint does not fit this {type(model).__name__}; only in the checkpoint: "
            f"{_listing(surplus)}; only in the model: {_listing(wanted - given)}; with another "
            f"shape: {_listing(shapes)}.{hint} Make the settings equal, or name in "
            f"'reset' the parameters that are not to be transferred."
        )
    loaded = sorted(wanted & given)
    model.load_state_dict({**own, **{name: state[name] for name in loaded}})
    if lacked:
        getLogger().info(f"the data lack the modalities {lacked} of the pre-trained model")
    return Transferred(loaded, sorted(set(state) - set(loaded)), sorted(set(own) - set(loaded)))


def _other_modalities(model: MultiModalRecommender, state: Mapping[str, Tensor]) -> str:
    """A hint, if the model reads modalities that the pre-trained model does not know."""
    known = modalities_of(state)
    if set(model.modalities) <= known:
        return ""
    common = [name for name in model.modalities if name in known]
    fix = f"set modalities: {common}" if common else "they have none in common"
    return (
        f" The pre-trained model reads the modalities {sorted(known)}, this model "
        f"{sorted(model.modalities)}: {fix}."
    )


def freeze(model: torch.nn.Module, patterns: Iterable[str]) -> list[str]:
    """Exclude the parameters of these names (glob patterns) from training.

    Returns:
        Their names.

    Raises:
        TransferError: a pattern matches no parameter, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        _require_match("freeze", pattern, names, model)
    frozen = [name for name in names if _matches(name, patterns)]
    if len(frozen) == len(names):
        raise TransferError(
            f"freeze: {list(patterns)} leaves nothing to train; epochs: 0 tests a model without training."
        )
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    return frozen


def freeze_from_config(model, config) -> list[str]:
    """Freeze what ``freeze`` names; see :func:`freeze`.

    Raises:
        TransferError: see :func:`freeze`; also if the model is not one of this package.
    """
    patterns = config["freeze"] or []
    if patterns:
        _require_ours(model, ["freeze"])
    return freeze(model, patterns) if patterns else []


def start_from_config(model, config) -> Transferred | None:
    """Start from ``pre_model_path`` with ``reset`` and ``allow_fewer_layers``.

    Raises:
        TransferError: the model is not one of this package, there is nothing to reset or to adapt,
            or untrained item IDs would be tested; see also :func:`start_from`.
    """
    if getattr(model, "pre_model_path", None):  # S3Rec has read it
        return None
    path, reset = config["pre_model_path"], config["reset"] or []
    given = [key for key in ("pre_model_path", "reset", "lora_rank") if config[key]]
    if given:
        _require_ours(model, given)
    if config["lora_rank"] and not path:
        raise TransferError(
            f"lora_rank: {config['lora_rank']} without pre_model_path: small changes of random weights "
            f"learn little. Set pre_model_path, or lora_rank: 0."
        )
    if reset and not path:
        raise TransferError(f"reset: {reset} without pre_model_path: all parameters are new.")
    if not path:
        return None
    if model.use_item_id and config["epochs"] == 0:
        raise TransferError(
            "epochs: 0 would test untrained item IDs: those of pre_model_path "
            "belong to its own data. Set use_item_id: False; the README shows how to test a "
            "checkpoint on its own data."
        )
    pretrained = read_pretrained(path, type(model).__name__)
    report = start_from(model, config, pretrained, f"pre_model_path {path}")
    return report._replace(training_data=tuple(pretrained.training_data))


def start_from(model, config, pretrained: Pretrained, origin: str) -> Transferred:
    """Start from pre-trained parameters with ``reset`` and ``allow_fewer_layers``.

    Args:
        model: model of this package, which gets the parameters.
        config: configuration of its run.
        pretrained: parameters that it starts from.
        origin: name of their source in messages.

    Raises:
        TransferError: the parameters do not fit (:func:`load_pretrained`), or the model would
            compute something else with them.
    """
    reset = config["reset"] or []
    try:
        trained_with = {**model.implied_keys, **(pretrained.config or {})}
        changeable = config["allow_changed_keys"] or []
        refuse_another_function(type(model), trained_with, config, changeable)
        fresh = (*reset, *model.domain_parameters)
        refuse_other_features(model, pretrained, fresh, bool(config["allow_other_features"]))
        fewer_layers = bool(config["allow_fewer_layers"])
        return load_pretrained(model, pretrained.state, reset, fewer_layers)
    except TransferError as error:
        raise TransferError(f"{origin}: {error}") from error


def _require_ours(model, keys: list[str]) -> None:
    if not isinstance(model, MultiModalRecommender):
        raise TransferError(
            f"{' and '.join(keys)}: only {', '.join(MODELS)} and your own multi-modal "
            f"models transfer, not {type(model).__name__}."
        )


def modalities_of(state: Mapping[str, Tensor]) -> set[str]:
    """The modalities that a model with these parameters reads: those with an adapter."""
    return {name.split(".")[1] for name in state if name.startswith("adapters.")}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _require_match(key: str, pattern: str, names, model):
    if not any(fnmatch(name, pattern) for name in names):
        raise TransferError(
            f"{key}: {pattern!r} does not match any parameter of {type(model).__name__}; names look like "
            f"{', '.join(list(names)[:3])}."
        )


def _unequal(patterns: Iterable[str], own: Mapping, state: Mapping) -> set[str]:
    """Names that match a pattern and are not in both with the same shape."""
    named = {name for name in (*own, *state) if _matches(name, patterns)}
    return {
        name
        for name in named
        if name not in own or name not in state or own[name].shape != state[name].shape
    }


def _is_above(name: str, stacks: Iterable[str], own: Iterable[str]) -> bool:
    """Whether the parameter belongs to a layer that the model's own stack does not reach."""
    parts = name.split(".")
    for stack in stacks:
        depth = len(stack.split("."))
        if fnmatch(".".join(parts[:depth]), stack) and parts[depth].isdigit():
            return not any(n.startswith(".".join(parts[: depth + 1]) + ".") for n in own)
    return False


def _listing(names) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more
