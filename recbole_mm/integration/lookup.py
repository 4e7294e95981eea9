"""RecBole's lookups by the name of a model: its class, its data set and its trainer.

RecBole imports ``recbole.model.sequential_recommender.<lower>`` and looks for ``<Model>Dataset`` in
``recbole.data.dataset`` and for ``<Model>Trainer`` in ``recbole.trainer``. No module of ours or of
a user's model is imported before such a lookup.
"""

import importlib.abc
import importlib.machinery
from collections.abc import Callable

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import BASELINES, MODELS, source_of
from recbole_mm.config.own_models import installed_models, own_models

PACKAGE = "recbole.model.sequential_recommender"
QUICK_START = "recbole.quick_start.quick_start"
RUN_FUNCTIONS = ("run", "run_recbole", "run_recboles", "objective_function", "load_data_and_model")
"""Functions of the quick start, which other processes run too."""


class ModelFinder(importlib.abc.MetaPathFinder):
    """Finds the module of a model outside RecBole, after all other finders."""

    def find_spec(self, fullname, *_):
        package, _, lower = fullname.rpartition(".")
        model = _model_named(lower) if package == PACKAGE else None
        return model and importlib.machinery.ModuleSpec(fullname, _ModelLoader(model))


class _ModelLoader(importlib.abc.Loader):
    """Creates a module that provides the model's class on request."""

    def __init__(self, model: str):
        self.model = model

    def exec_module(self, module):
        answer(module, lambda name: model_class(name) if name == self.model else None)


def answer(module, find: Callable[[str], object | None]) -> None:
    """Let ``find`` provide the attributes that a module does not have (PEP 562).

    Raises:
        RuntimeError: another package already does this.
    """
    if hasattr(module, "_answers_for_recbole_mm"):
        return
    if hasattr(module, "__getattr__"):
        raise RuntimeError(f"{module.__name__} already has a __getattr__; cannot add to it")

    def look_up(name: str):
        found = find(name)
        if found is None:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return found

    module.__getattr__ = look_up
    module._answers_for_recbole_mm = True


def find_dataset_class(name: str) -> type | None:
    """The class for ``<Model>Dataset``."""
    model = name.removesuffix("Dataset")
    if model == name or source_of(model) is None:
        return None
    from recbole_mm.data.dataset import MultiModalDataset

    return MultiModalDataset


def find_trainer_class(name: str) -> type | None:
    """The class for ``<Model>Trainer``; a model that is trained and not multi-modal has RecBole's
    trainer."""
    model = name.removesuffix("Trainer")
    if model == name or source_of(model) is None:
        return None
    from recbole_mm.training.trainer import MultiModalTrainer
    from recbole_mm.training.training_free import TrainingFreeTrainer

    if is_multi_modal(model):
        return MultiModalTrainer
    return TrainingFreeTrainer if getattr(model_class(model), "training_free", False) else None


def is_multi_modal(model: str) -> bool:
    """Whether a model reads our item features and can therefore be transferred."""
    from recbole_mm.model.abstract_recommender import MultiModalRecommender

    source = source_of(model)
    return source is not None and issubclass(model_class(model), MultiModalRecommender)


def model_class(model: str) -> type:
    """The class of a model outside RecBole.

    Raises:
        ConfigError: the class cannot be imported, or is not a sequential model.
    """
    from recbole.model.abstract_recommender import SequentialRecommender

    source = source_of(model)
    found = source.load()
    if not issubclass(found, SequentialRecommender):
        raise ConfigError(
            f"model {str(source)!r} must be a subclass of "
            f"recbole_mm.model.abstract_recommender.MultiModalRecommender, or of RecBole's "
            f"SequentialRecommender for a model without item features"
        )
    return found


def _model_named(lower: str) -> str | None:
    names = (*MODELS, *BASELINES, *own_models(), *installed_models())
    return next((name for name in names if name.lower() == lower), None)
