"""Opening a checkpoint: its model, built again, and the data set that it was trained on."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from recbole.utils import get_model
from torch import Tensor

from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.recommend.catalog import Catalog, CatalogDataset
from recbole_mm.run.splits import find_or_make
from recbole_mm.tools.errors import UserError, user_errors
from recbole_mm.tools.hashing import sha256_of_file

WITHOUT_TRAINING = {
    "softmax": "full",
    "loss_positions": "last",
    "same_domain_negatives": False,
    "word_drop_features": None,
    "interest_clustering": "kmeans",
    "pre_model_path": None,
    "reset": [],
    "freeze": [],
}
"""Keys that matter to training alone, at values that need neither a data set nor a package."""


class CheckpointError(UserError):
    """A file that is not a checkpoint of one of our models, or does not fit its data."""


class Opened(NamedTuple):
    """A trained model with what it needs.

    Attributes:
        model: of ours, on its device, in evaluation.
        catalog: its items.
        config: as it was trained.
        train: the training split of its data set; ``None`` for a bundle, which has none.
        identity: hash of the file.
    """

    model: torch.nn.Module
    catalog: Catalog
    config: dict
    train: MultiModalDataset | None
    identity: str


def open_checkpoint(path, device=None, data_path=None) -> Opened:
    """The model of a checkpoint of ours, and its data set as it is on disk.

    Args:
        path: a checkpoint of :class:`~recbole_mm.training.trainer.MultiModalTrainer`.
        device: of the model; ``None``: a GPU if there is one.
        data_path: folder of the data sets; ``None``: that of the training.

    Raises:
        CheckpointError: not a checkpoint of MMM4Rec, MISSRec or UniSRec, or one whose parameters do
            not fit its data set.
        UserError: the data set does not exist or cannot be used.
    """
    checkpoint = read_checkpoint(path)
    plain, state = dict(checkpoint["config"]), checkpoint["state_dict"]
    plain["modalities"] = [n.split(".")[1] for n in state if n.startswith("adapters.")]
    plain["modalities"] = list(dict.fromkeys(plain["modalities"]))
    if data_path is not None:
        plain["data_path"] = str(data_path)
    train = _load_training_split(plain)
    catalog = Catalog.of_dataset(train)
    model = build_model(plain, catalog, state, device, str(path))
    return Opened(model, catalog, plain, train, sha256_of_file(path))


def read_checkpoint(path) -> dict:
    """The content of a checkpoint of ours, without executing code; tensors are mapped from the file.

    Raises:
        CheckpointError: the file does not exist, is damaged, or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: the checkpoint does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            # what is compressed could be of any size in memory
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise CheckpointError(
                    f"{path}: not a checkpoint of {', '.join(MODELS)}: it is compressed"
                )
            damaged = archive.testzip()
        if damaged:
            raise CheckpointError(
                f"{path}: not a checkpoint of {', '.join(MODELS)}, or a damaged one ({damaged})"
            )
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged file makes torch raise
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path}: not a checkpoint of {', '.join(MODELS)}, or a damaged one ({reason})"
        ) from error
    config = content.get("config") if isinstance(content, dict) else None
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, str) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of {', '.join(MODELS)}")
    if model not in MODELS:
        raise CheckpointError(
            f"{path}: a checkpoint of {model}; only {', '.join(MODELS)} can be opened here"
        )
    return content


def build_model(plain: Mapping, catalog: Catalog, state: Mapping[str, Tensor], device, origin: str):
    """A model with these parameters, for evaluation.

    Args:
        plain: its configuration.
        catalog: its items.
        state: its parameters.
        device: see :func:`open_checkpoint`.
        origin: names the parameters in messages.

    Raises:
        CheckpointError: configuration, items and parameters do not fit together.
    """
    values = {key: value for key, value in plain.items() if key not in ("model", "dataset")}
    known = {key: value for key, value in WITHOUT_TRAINING.items() if key in values}
    config = load_config(
        plain["model"], plain["dataset"], config_dict={**values, **known, "use_gpu": False}
    )
    config["device"] = _usable_device(device)
    stand_in = CatalogDataset(catalog, config["ITEM_ID_FIELD"])
    with torch.random.fork_rng(devices=[]), user_errors(f"{origin}: "):
        model = get_model(plain["model"])(config, stand_in)
    _refuse_other_parameters(model.state_dict(), state, origin)
    model.load_state_dict(state)
    return model.to(config["device"]).eval()


def _usable_device(name) -> torch.device:
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"device {str(name)!r} cannot be used: {reason}") from error


def _load_training_split(plain: dict) -> MultiModalDataset:
    values = {key: value for key, value in plain.items() if key not in ("model", "dataset")}
    # RecBole would unpickle what these name
    values |= {"dataset_save_path": None, "dataloaders_save_path": None, "use_gpu": False}
    config = load_config(plain["model"], plain["dataset"], config_dict=values)
    find_or_make(config)
    with user_errors():
        return MultiModalDataset(config).build()[0]


def _refuse_other_parameters(own: Mapping[str, Tensor], given: Mapping, origin: str) -> None:
    if own.keys() != given.keys():
        only = ", ".join(sorted(own.keys() ^ given.keys())[:3])
        raise CheckpointError(f"{origin}: its parameters are not those of the model, e.g. {only}")
    other = [
        f"{name} {tuple(given[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if given[name].shape != own[name].shape
    ]
    if other:
        raise CheckpointError(
            f"{origin}: it does not fit its items and its configuration: {'; '.join(other[:3])}. Has its data set "
            f"changed since the training? Restore it, and add new items with new_items"
        )
