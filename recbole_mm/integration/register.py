"""The door into RecBole: models, data set and trainer by name.

RecBole looks everything up by the model's name: the class in
``recbole.model.sequential_recommender.<lower>``, the data set in
``recbole.data.dataset.<Model>Dataset``, the trainer in ``recbole.trainer.<Model>Trainer`` and the
defaults in its own ``properties/model/<Model>.yaml``. :func:`register` answers these four questions
for the models of :data:`~recbole_mm.config.models.MODELS`; nothing of ours is imported before
RecBole asks for it.

Registration is a property of the process. A spawned process (``torch.multiprocessing.spawn``,
``multiprocessing`` with the spawn method, a Ray worker) unpickles the function that it runs by
its module's name; RecBole's run functions are therefore made to name
``recbole_mm.integration.spawned``, whose import registers again. A worker whose function neither
belongs to RecBole's quick start nor imports :mod:`recbole_mm` knows RecBole's own models only.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
import types

from recbole_mm.config.models import MODELS, recbole_models
from recbole_mm.config.property_files import layer_property_files

QUICK_START = "recbole.quick_start.quick_start"


def register():
    """Make RecBole find every model of :data:`~recbole_mm.config.models.MODELS` by name.

    Calling it again changes nothing.
    """
    import recbole.data.dataset
    import recbole.trainer

    for model in MODELS:
        _add_model_module(model)
        _add_lazy_attribute(recbole.trainer, f"{model}Trainer", _trainer_class)
        _add_lazy_attribute(recbole.data.dataset, f"{model}Dataset", _dataset_class)
    _layer_our_property_files()
    _send_run_functions_through_this_package()


@contextlib.contextmanager
def multi_modal_dataset_for(model):
    """Within the context RecBole loads ``model``'s data with our data set class.

    It gives RecBole's own sequential models the split, the event order and the memory use of
    ours. A model with a data set class of its own, or of another kind, keeps what RecBole gives it.
    """
    import recbole.data.dataset

    name = f"{model}Dataset"
    if hasattr(recbole.data.dataset, name) or model not in recbole_models("sequential"):
        yield
        return
    setattr(recbole.data.dataset, name, _dataset_class())
    try:
        yield
    finally:
        delattr(recbole.data.dataset, name)


def _dataset_class():
    from recbole_mm.data.dataset import MultiModalDataset

    return MultiModalDataset


def _trainer_class():
    from recbole_mm.training.trainer import MultiModalTrainer

    return MultiModalTrainer


def _add_model_module(model):
    import recbole.model.sequential_recommender

    alias = f"{recbole.model.sequential_recommender.__name__}.{model.lower()}"
    if alias in sys.modules:
        return

    def model_class():
        name = f"recbole_mm.model.sequential_recommender.{model.lower()}"
        return getattr(importlib.import_module(name), model)

    module = types.ModuleType(alias)
    # RecBole asks importlib whether the module exists, which reads its spec.
    module.__spec__ = importlib.machinery.ModuleSpec(alias, loader=None)
    sys.modules[alias] = module
    _add_lazy_attribute(module, model, model_class)


def _add_lazy_attribute(module, name, get):
    """``module.name`` calls ``get`` (PEP 562) until somebody sets a real attribute of that name."""
    table = getattr(module, "_recbole_mm_lazy", None)
    if table is None:
        if hasattr(module, "__getattr__"):
            raise RuntimeError(f"{module.__name__} has a __getattr__ of its own: cannot add to it")
        table = module._recbole_mm_lazy = {}

        def look_up(wanted):
            if wanted in table:
                return table[wanted]()
            raise AttributeError(f"module {module.__name__!r} has no attribute {wanted!r}")

        module.__getattr__ = look_up
    table[name] = get


def _layer_our_property_files():
    """Our yaml files come after RecBole's defaults and before everything that a user gives."""
    from recbole.config import Config

    original = Config._load_internal_config_dict
    if getattr(original, "layers_our_files", False):
        return

    def _load_internal_config_dict(self, model, model_class, dataset):
        original(self, model, model_class, dataset)
        if model in MODELS:
            layer_property_files(self, model, dataset)

    _load_internal_config_dict.layers_our_files = True
    Config._load_internal_config_dict = _load_internal_config_dict


def _send_run_functions_through_this_package():
    """Pickles of RecBole's run functions name a module of ours, as soon as they are imported."""
    if QUICK_START in sys.modules:
        importlib.import_module("recbole_mm.integration.spawned")
    elif not any(isinstance(finder, _AfterQuickStart) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterQuickStart())


class _AfterQuickStart(importlib.abc.MetaPathFinder):
    """Imports ``spawned`` right after RecBole's quick start, which imports ray."""

    def find_spec(self, fullname, path=None, *_):
        if fullname != QUICK_START:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            importlib.import_module("recbole_mm.integration.spawned")

        spec.loader.exec_module = exec_module
        return spec
