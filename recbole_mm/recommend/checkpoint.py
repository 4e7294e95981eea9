"""Opening a checkpoint: its rebuilt model, and the data set that it was trained on."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from recbole.utils import get_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.keys import refuse_unknown_keys
from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.data.builtin import BUILTIN
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.training_data import UNKNOWN, Record, training_data, well_formed
from recbole_mm.integration.recbole_checkpoints import read_checkpoint_of_recbole
from recbole_mm.model.layers.feature_transform import FeatureTransform
from recbole_mm.model.layers.per_domain import PerDomain
from recbole_mm.recommend.catalog import SHOWN, Catalog, CatalogDataset
from recbole_mm.recommend.whole_scores import WholeScores
from recbole_mm.run.splits import find_or_make
from recbole_mm.tools.errors import UserError, first_line, user_errors
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.transfer.checkpoints import CheckpointError, CheckpointOfRecBole, read_checkpoint
from recbole_mm.transfer.feature_match import match_features

WITHOUT_TRAINING = {
    "softmax": "full",
    "loss_positions": "last",
    "same_domain_negatives": False,
    "sparse_id_updates": False,
    "word_drop_features": None,
    "interest_clustering": "kmeans",
    "pre_model_path": None,
    "reset": [],
    "freeze": [],
}
"""Keys that matter only to training, with values that need neither a data set nor a package."""


INITIALIZATIONS = {"normal_", "uniform_"} | {
    x for x in vars(torch.nn.init) if re.match("[a-z].*_$", x)
}
"""Functions and methods that initialize a tensor."""


class Opened(NamedTuple):
    """A trained model with what it needs.

    Attributes:
        model: trained model, on its device, in evaluation mode.
        catalog: items of the model.
        config: configuration of the training, as plain data.
        facts: facts about the training, JSON-able.
        identity: hash of the file.
        splits: training, validation and test data; ``None`` for a bundle, which has none.
    """

    model: torch.nn.Module
    catalog: Catalog
    config: dict
    facts: dict
    identity: str
    splits: list | None = None


def open_checkpoint(path, device=None, data_path=None) -> Opened:
    """The model of a checkpoint, and its data set as it is on disk.

    Args:
        path: checkpoint of a run.
        device: device of the model; ``None``: a GPU if there is one.
        data_path: folder of the data sets; ``None``: that of the training.

    Raises:
        CheckpointError: the file is not a checkpoint of a model that recommends from a history, or
            its parameters do not fit its data set, or were trained on features of another encoder.
        UserError: the data set does not exist or cannot be used.
    """
    try:
        checkpoint = read_checkpoint(path)
    except CheckpointOfRecBole:
        return _open_of_recbole(path, device, data_path)
    plain, state = checkpoint["config"], checkpoint["state_dict"]
    modalities = [name.split(".")[1] for name in state if name.startswith("adapters.")]
    plain = {**plain, "modalities": list(dict.fromkeys(modalities))}
    if data_path is not None:
        plain["data_path"] = str(data_path)
    splits, popularity = _load_splits(plain, str(path))
    plain["domains"] = list(splits[0].domains) or None
    _refuse_other_features(checkpoint.get("features"), splits[0], str(path))
    catalog = Catalog.of_dataset(splits[0], popularity)
    catalog = _as_trained(catalog, checkpoint.get("other_parameter"))
    model = build_model(plain, catalog, state, device, str(path))
    with user_errors(f"{path}: "):
        model.load_other_parameter(checkpoint.get("other_parameter"))
    try:
        facts = _facts(checkpoint, plain, splits[0])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: damaged: what it says about its training cannot be read ({error!r})"
        ) from error
    return Opened(model, catalog, plain, facts, sha256_of_file(path), splits)


def _open_of_recbole(path, device, data_path) -> Opened:
    """The same for RecBole's sequential models, and for baselines without training."""
    checkpoint = read_checkpoint_of_recbole(path)
    plain = config_to_plain(checkpoint["config"])
    if data_path is not None:
        plain["data_path"] = str(data_path)
    splits, popularity = _load_splits(plain, str(path))
    config = splits[0].config
    config["device"] = _usable_device(device)
    with torch.random.fork_rng(devices=[]), user_errors(f"{path}: "):
        model = get_model(config["model"])(config, splits[0])
    state = checkpoint["state_dict"]
    _refuse_other_parameters(model.state_dict(), state, str(path), "Restore it, or train again")
    model.load_state_dict(state)
    model.load_other_parameter(checkpoint.get("other_parameter"))
    whole = WholeScores(model.to(config["device"]), config).eval()
    catalog = Catalog.of_dataset(splits[0], popularity)
    facts = _facts(checkpoint, plain, splits[0])
    return Opened(whole, catalog, plain, facts, sha256_of_file(path), splits)


def build_model(plain: Mapping, catalog: Catalog, state: Mapping[str, Tensor], device, origin: str):
    """A model with these parameters, for evaluation.

    Nothing of its size is allocated before its parameters are known to fit.

    Args:
        plain: configuration of the model, as plain data.
        catalog: items of the model.
        state: parameters of the model.
        device: see :func:`open_checkpoint`.
        origin: name of the parameters in messages.

    Raises:
        CheckpointError: configuration, items and parameters do not fit together.
        ConfigError: the configuration has unknown keys, or values that its keys cannot have.
    """
    training_only = {key: value for key, value in WITHOUT_TRAINING.items() if key in plain}
    config = _stored_config({**plain, **training_only}, origin)
    for key in ("n_layers", "n_experts"):
        if config[key] and config[key] > len(state):
            raise CheckpointError(
                f"{origin}: {key} is {config[key]}, which its parameters do not fit"
            )
    config["device"] = _usable_device(device)
    of_a_domain = config["adapters_per_domain"] or config["transform_per_domain"]
    domains = (config["domains"] or []) if of_a_domain else []
    transforms: dict[str, nn.Module] = {}
    if config["feature_transform"]:
        n_transforms = len(domains) if config["transform_per_domain"] else 0
        transforms = _transforms(catalog, state, n_transforms, origin)
    stand_in = CatalogDataset(catalog, config["ITEM_ID_FIELD"], transforms, domains)
    with torch.random.fork_rng(devices=[]), user_errors(f"{origin}: "):
        with torch.device("meta"), _WithoutInitialization():
            own = get_model(plain["model"])(config, stand_in).state_dict()
        fix = "Restore it, and add new items with --new-items"
        _refuse_other_parameters(own, state, origin, fix)
        model = get_model(plain["model"])(config, stand_in)
    model.load_state_dict(state)
    return model.to(config["device"]).eval()


class _WithoutInitialization(TorchFunctionMode):
    """Context in which random initialization does nothing: for tensors without values it would only
    import torch's compiler, which takes 2 s."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function.__name__ in INITIALIZATIONS:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def _transforms(
    catalog: Catalog, state: Mapping, n_domains: int, origin: str
) -> dict[str, nn.Module]:
    """The estimated transforms of the features; one per domain, if there are domains."""
    transforms: dict[str, nn.Module] = {}
    for modality, (values, _) in catalog.features.items():
        prefix = f"item_table.transforms.{modality}"
        names = [f"{prefix}.{number}" for number in range(n_domains)] or [prefix]
        found = [
            transform
            for name in names
            if (transform := _transform(state, name, values.shape[1])) is not None
        ]
        if len(found) < len(names):
            raise CheckpointError(
                f"{origin}: it has no axes that project {modality} features of width "
                f"{values.shape[1]} (feature_transform)"
            )
        transforms[modality] = PerDomain(found) if n_domains else found[0]
    return transforms


def _transform(state: Mapping, name: str, width: int) -> FeatureTransform | None:
    """The transform with these parameters; ``None`` if they are not for features of this width."""
    mean, axes = (state.get(f"{name}.{part}") for part in ("mean", "axes"))
    if not (isinstance(mean, Tensor) and isinstance(axes, Tensor) and axes.dim() == 2):
        return None
    fits = tuple(mean.shape) == (len(axes),) == (width,)
    return FeatureTransform(mean, axes) if fits else None


def _usable_device(name) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = first_line(error)
        raise UserError(f"device {str(name)!r} cannot be used: {reason}") from error


def _stored_config(plain: dict, origin: str):
    values = {key: value for key, value in plain.items() if key not in ("model", "dataset")}
    refuse_unknown_keys(values, origin)
    refuse_wrong_values(values, origin, plain["model"])
    return config_from_plain({**plain, "use_gpu": False})


def _load_splits(plain: dict, origin: str) -> tuple[list[MultiModalDataset], Tensor]:
    """Training, validation and test data, and the interactions of each item in all of them."""
    config = _stored_config(plain, origin)
    _refuse_files_elsewhere(config, origin)
    find_or_make(config)
    with user_errors():
        whole = MultiModalDataset(config)
        return whole.build(), whole.item_counts_of_all_events()


def _refuse_files_elsewhere(config, origin: str) -> None:
    """Refuse to make the files of a built-in data set outside the working directory: the checkpoint
    names the folders."""
    name = config["dataset"]
    if name not in BUILTIN:
        return
    data = Path(config["data_path"])
    features = Path(config["feature_path"] or data)
    here = Path.cwd().resolve()
    for folder, is_made in (
        (data, (data / f"{name}.inter").is_file()),
        (features, any(features.glob(f"{name}.*.npz"))),
    ):
        if not is_made and not folder.resolve().is_relative_to(here):
            raise CheckpointError(
                f"{origin}: it was trained on {name!r} in {folder}, where its files are missing. A "
                f"checkpoint makes files only in the working directory: make these with recbole-mm "
                f"--dataset={name} --data_path={data.parent}, or start where they are"
            )


def _refuse_other_features(known, train: MultiModalDataset, origin: str) -> None:
    """Refuse features on disk that were made differently from those of the training."""
    known = known if isinstance(known, Mapping) else None
    different = match_features(known, train.feature_info, train.modalities).different
    if different:
        facts = "; ".join(f"{modality}: {fact}" for modality, fact in different.items())
        raise CheckpointError(
            f"{origin}: data set {train.dataset_name} has other features now than the model was trained "
            f"with, so its scores would be meaningless: {facts}. Extract them again as they were, "
            f"or train again"
        )


def _as_trained(catalog: Catalog, recorded) -> Catalog:
    """The catalog with the training interactions at training time, if they are recorded, even if the
    data set has grown since; what is popular follows the data set."""
    recorded = recorded if isinstance(recorded, Mapping) else {}
    tokens, counts = recorded.get("item_tokens"), recorded.get("item_counts")
    if not isinstance(counts, Tensor) or counts.dtype != torch.int64:
        return catalog
    if not isinstance(tokens, list) or counts.shape != (len(tokens),):
        return catalog
    met = dict(zip(map(str, tokens), counts.tolist(), strict=True))
    return catalog._replace(
        counts=torch.tensor([met.get(token, 0) for token in catalog.tokens.to_list()])
    )


def _facts(checkpoint: Mapping, plain: dict, train: MultiModalDataset) -> dict:
    protocol = ("split", "order", "group_by", "mode")
    score = float(checkpoint["best_valid_score"])  # infinite if nothing was validated
    return {
        "data": {
            "name": plain["dataset"],
            "users": train.user_num - 1,
            "items": train.item_num - 1,
            "interactions": len(train.inter_feat if train.has_histories else train.events),
        },
        "protocol": {key: str(plain["eval_args"][key]) for key in protocol},
        "validation": {plain["valid_metric"].lower(): score} if math.isfinite(score) else {},
        "epoch": int(checkpoint["epoch"]) + 1,
        "training_data": well_formed(checkpoint.get("training_data")) or _on_disk(plain, train),
    }


def _on_disk(plain: dict, train: MultiModalDataset) -> list[Record]:
    """For a checkpoint of RecBole's trainer, which records nothing: what the data set says of itself."""
    return [UNKNOWN] * bool(plain.get("pre_model_path")) + [training_data(train.config)]


def _refuse_other_parameters(
    own: Mapping[str, Tensor], given: Mapping, origin: str, fix: str
) -> None:
    if own.keys() != given.keys():
        only = ", ".join(sorted(own.keys() ^ given.keys())[:SHOWN])
        raise CheckpointError(f"{origin}: its parameters are not those of the model, e.g. {only}")
    shapes = {name: tuple(getattr(value, "shape", ())) for name, value in given.items()}
    other = [
        f"{name} {shapes[name]}, expected {tuple(own[name].shape)}"
        for name in own
        if shapes[name] != tuple(own[name].shape)
    ]
    if other:
        raise CheckpointError(
            f"{origin}: it does not fit its items and its configuration: "
            f"{'; '.join(other[:SHOWN])}. Has its data set changed since the training? {fix}"
        )
    bad = [name for name, value in given.items() if not bool(value.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{origin}: NaN or infinite values in {len(bad)} parameters, e.g. {bad[0]}: the training "
            f"has failed; lower its learning_rate"
        )
