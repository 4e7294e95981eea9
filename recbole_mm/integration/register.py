"""Registration in RecBole: models, data set, trainer and property files by a model's name.

RecBole looks everything up by the model's name; :mod:`~recbole_mm.integration.lookup` answers for
the models of this package and of the user. Their property files come after RecBole's defaults
(:func:`~recbole_mm.config.load.layer_our_files`), and the user's values are checked as everywhere
else.

Registration is a property of the process. A spawned process (``torch.multiprocessing.spawn``,
``multiprocessing`` with the spawn method, a Ray worker) unpickles the function that it runs by
its module's name; RecBole's run functions therefore name ``recbole_mm.integration.spawned`` as
their module, whose import registers again. A worker whose function neither belongs to RecBole's
quick start nor imports :mod:`recbole_mm` only knows RecBole's own models.
"""

import contextlib
import functools
import importlib
import sys
from collections.abc import Iterator

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.defaults import merge
from recbole_mm.config.keys import refuse_saved_data
from recbole_mm.config.models import model_name, recbole_models, source_of
from recbole_mm.integration import lookup
from recbole_mm.integration.lookup import QUICK_START
from recbole_mm.integration.ray_tune import instead_of_ray
from recbole_mm.tools.imports import AroundImport


def register():
    """Make RecBole find our models and the user's by name. Calling it again has no effect."""
    answer_by_name()
    look_among_sequential_models_first()
    layer_our_property_files()
    load_data_as_our_commands_did()
    send_run_functions_through_this_package()


def answer_by_name():
    """Provide RecBole with the class, the data set and the trainer of a model that is not its
    own."""
    import recbole.data.dataset
    import recbole.trainer

    if not any(isinstance(finder, lookup.ModelFinder) for finder in sys.meta_path):
        sys.meta_path.append(lookup.ModelFinder())
    lookup.answer(recbole.trainer, lookup.find_trainer_class)
    lookup.answer(recbole.data.dataset, lookup.find_dataset_class)


def look_among_sequential_models_first():
    """Let RecBole's ``get_model`` find a sequential model without importing the packages of all
    other kinds, which it searches first."""
    from recbole.utils import utils

    original = utils.get_model
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def get_model(model_name):
        if model_name not in recbole_models("sequential") and source_of(model_name) is None:
            return original(model_name)
        module = importlib.import_module(f"{lookup.PACKAGE}.{model_name.lower()}")
        return getattr(module, model_name)

    _replace_everywhere("get_model", original, get_model)


def _replace_everywhere(name: str, original, replacement) -> None:
    """Replace a function in all RecBole modules that have imported it."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("recbole.") and vars(module).get(name) is original:
            setattr(module, name, replacement)


def register_model(model: str | type) -> str:
    """Register a user's model by name, for RecBole's functions and for ours.

    Args:
        model: class, or ``my_module:MyModel``.

    Returns:
        its name.

    Raises:
        ConfigError: the module does not exist, or the name is taken.
    """
    return model_name(f"{model.__module__}:{model.__name__}" if isinstance(model, type) else model)


@contextlib.contextmanager
def multi_modal_dataset_for(model):
    """Let RecBole load ``model``'s data with our data set class within the block.

    It gives RecBole's own sequential models the split, the event order and the memory use of
    ours. A model with its own data set class, or of another kind, keeps RecBole's class.
    """
    import recbole.data.dataset

    name = f"{model}Dataset"
    if hasattr(recbole.data.dataset, name) or model not in recbole_models("sequential"):
        yield
        return
    from recbole_mm.data.dataset import MultiModalDataset

    setattr(recbole.data.dataset, name, MultiModalDataset)
    try:
        yield
    finally:
        delattr(recbole.data.dataset, name)


def load_data_as_our_commands_did():
    """Let RecBole's ``create_dataset`` use our data set class for a configuration of our commands,
    such as that of a checkpoint; RecBole's own Config keeps RecBole's class."""
    from recbole.data import utils

    original = utils.create_dataset
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def create_dataset(config):
        from recbole_mm.config.load import RunConfig

        ours = isinstance(config, RunConfig)
        with multi_modal_dataset_for(config["model"]) if ours else contextlib.nullcontext():
            return original(config)

    _replace_everywhere("create_dataset", original, create_dataset)


def layer_our_property_files():
    """Apply our yaml files after RecBole's defaults and before the user's values."""
    from recbole.config import Config

    if getattr(Config, "layers_our_files", False):
        return
    get_model_and_dataset = Config._get_model_and_dataset
    load_internal_config_dict = Config._load_internal_config_dict

    def _get_model_and_dataset(self, model, dataset):
        named = model or self.external_config_dict.get("model")
        if isinstance(named, type) and not named.__module__.startswith("recbole."):
            register_model(named)
        elif isinstance(named, str) and ":" in named:
            model = register_model(named)
        return get_model_and_dataset(self, model, dataset)

    def _load_internal_config_dict(self, model, model_class, dataset):
        load_internal_config_dict(self, model, model_class, dataset)
        refuse_saved_data(self.external_config_dict, "configuration")
        from recbole_mm.config.load import RunConfig

        if not isinstance(self, RunConfig) and source_of(model) is not None:
            _layer_and_check(self, model, model_class, dataset)

    Config._get_model_and_dataset = _get_model_and_dataset
    Config._load_internal_config_dict = _load_internal_config_dict
    Config.layers_our_files = True


def _layer_and_check(config, model: str, model_class: type, dataset: str):
    """Do what :func:`~recbole_mm.config.load.load_config` does, for a Config that RecBole
    creates."""
    from recbole_mm.config.load import layer_our_files

    layer_our_files(config, model, model_class, dataset)
    defaults = config.internal_config_dict
    for source, values in (
        ("config file", config.file_config_dict),
        ("config_dict", config.variable_config_dict),
        ("command line", config.cmd_config_dict),
    ):
        refuse_wrong_values(values, source, model, defaults)
    given = config.external_config_dict
    values = merge([defaults, given], model)
    config.external_config_dict = {key: values[key] for key in given}


def send_run_functions_through_this_package():
    """Make pickles of RecBole's run functions name one of our modules, as soon as they are
    imported."""
    if QUICK_START in sys.modules:
        importlib.import_module("recbole_mm.integration.spawned")
    else:
        AroundImport.install(QUICK_START, _without_ray)


@contextlib.contextmanager
def _without_ray() -> Iterator[None]:
    """Around the import of RecBole's quick start; ``spawned`` is imported right after it."""
    with instead_of_ray():
        yield
    importlib.import_module("recbole_mm.integration.spawned")
