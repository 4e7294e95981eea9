"""Patches of RecBole 1.2 for a current numpy, pandas and torch: one function, one reason each.

Every patch is narrow (it acts on RecBole's own calls, not on the process), may be applied twice,
and goes away by deleting its function, and its entry in :mod:`~recbole_mm.integration.patch_list`,
once RecBole no longer needs it.
"""

import functools
import importlib
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import ModuleType

import numpy as np
import pandas as pd
import torch

from recbole_mm.config.errors import ConfigError
from recbole_mm.integration.stand_ins import stand_ins
from recbole_mm.tools.imports import AroundImport

METRICS = "recbole.evaluator.metrics"
OPTIMIZER_METHODS = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
NUMPY_ALIASES = {
    "float_": np.float64,
    "complex_": np.complex128,
    "unicode_": np.str_,
    "bool8": np.bool_,
}


def restore_numpy_aliases():
    """numpy 2 dropped four aliases that RecBole's Config reads."""
    for name, scalar in NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, scalar)


def silence_warnings_without_a_remedy():
    """Warnings at lines of RecBole, about which a user can do nothing.

    Among them: torch's about ``torch.cuda.amp.GradScaler`` and pandas' about chained ``fillna`` and
    ``Series.agg(len)``. Warnings at the user's and at our own lines stay.
    """
    for category in (FutureWarning, DeprecationWarning, pd.errors.ChainedAssignmentError):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    # columns of pandas 3 are read-only, and RecBole writes to none of its tensors of them
    message = "The given NumPy array is not writable"
    warnings.filterwarnings("ignore", message, category=UserWarning, module=r"recbole\.")
    # as Python 3.12 compiles formulas in docstrings; the module is a path here
    warnings.filterwarnings("ignore", "invalid escape", SyntaxWarning, r".*\brecbole\b")


def switch_off_anomaly_detection():
    """Importing RecBole's sequential models switches autograd's anomaly detection on (in SINE).

    It checks every gradient of every model of the process for NaN and halves the speed. A user who
    wants it calls ``torch.autograd.set_detect_anomaly(True)`` after the import.
    """
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(False)


def leave_numbers_in_the_collector():
    """ItemCoverage, GiniIndex and kin keep counts in the collector, which calls ``.cpu()`` on all.

    The counts are set aside while RecBole's function moves the tensors, then put back.
    """
    from recbole.evaluator import Collector

    original = Collector.get_data_struct
    if getattr(original, "leaves_numbers", False):
        return

    @functools.wraps(original)
    def get_data_struct(self):
        entries = self.data_struct._data_dict
        numbers = {k: v for k, v in entries.items() if not isinstance(v, torch.Tensor)}
        for key in numbers:
            del entries[key]
        try:
            struct = original(self)
        finally:
            entries.update(numbers)
        struct._data_dict.update(numbers)
        return struct

    get_data_struct.leaves_numbers = True
    Collector.get_data_struct = get_data_struct


def keep_modules_out_of_other_parameters():
    """FDSA and SASRecF pickle a submodule, and with it the whole data set, into each checkpoint.

    Such a checkpoint names more classes than can be allowed when it is loaded. The submodule's
    parameters are in the ``state_dict`` as well, so it is left out of the other parameters.
    """
    from recbole.model.abstract_recommender import AbstractRecommender

    original = AbstractRecommender.other_parameter
    if getattr(original, "leaves_modules", False):
        return

    @functools.wraps(original)
    def other_parameter(self):
        values = original(self).items()
        return {key: value for key, value in values if not isinstance(value, torch.nn.Module)}

    other_parameter.leaves_modules = True
    AbstractRecommender.other_parameter = other_parameter


def let_several_processes_make_a_folder():
    """Of two processes that find a folder missing, RecBole lets the slower one fail.

    The modules of RecBole have ``ensure_dir`` by name, so it is replaced in each that is loaded.
    """
    from recbole.utils import utils

    original = utils.ensure_dir
    if getattr(original, "may_exist", False):
        return

    @functools.wraps(original)
    def ensure_dir(dir_path):
        os.makedirs(dir_path, exist_ok=True)

    ensure_dir.may_exist = True
    for name, module in list(sys.modules.items()):
        if name.startswith("recbole.") and vars(module).get("ensure_dir") is original:
            module.ensure_dir = ensure_dir


def give_sparse_matrices_their_update():
    """scipy 1.13 dropped ``dok_matrix._update``, by which RecBole's graph models fill theirs.

    LightGCN, NGCF, GCMC, NCL, SpectralCF, KGIN and MCCLK call it. Only the missing name is added.
    """
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return

    def _update(self, data):
        self._dict.update(data)

    dok_matrix._update = _update


def leave_pickled_data_sets_closed():
    """RecBole unpickles a data set that a key names, or that lies in ``checkpoint_dir``.

    Unpickling executes what the author of the file wants. The file may come with a checkpoint,
    whose configuration names it. RecBole's module of data gets a ``pickle`` that reads nothing.
    """
    from recbole.data import utils

    utils.pickle = ClosedPickle


class ClosedPickle:
    """What RecBole's module of data asks of ``pickle``."""

    dump = staticmethod(pickle.dump)

    @staticmethod
    def load(file):
        raise ConfigError(
            f"{file.name}: a data set that RecBole has pickled. Reading it executes whatever code is "
            f"in it, so it is not read after `import recbole_mm`. Delete the file or move it out of "
            f"checkpoint_dir; the data set is loaded from its .inter file"
        )


def share_the_empty_set_of_used_items():
    """RecBole's RepeatableSampler makes an empty set for each user, which takes 216 bytes, and is made
    for the validation and again for the test. Nothing is put into these sets: all are the same one.
    """
    from recbole.sampler import RepeatableSampler

    def get_used_ids(self):
        return np.full(self.user_num, set(), dtype=object)

    get_used_ids.shares_the_set = True
    RepeatableSampler.get_used_ids = get_used_ids


def fill_missing_values():
    """pandas 3 leaves a column as it is when RecBole fills it by ``feat[field].fillna(inplace=True)``.

    Missing ids become 0, and missing numbers the mean of their column, before RecBole looks for them.
    """
    from recbole.data.dataset import Dataset
    from recbole.utils import FeatureType

    original = Dataset._fill_nan
    if getattr(original, "fills_columns", False):
        return

    @functools.wraps(original)
    def _fill_nan(self):
        for feat in (getattr(self, name) for name in self.feat_name_list):
            for field in feat:
                kind = self.field2type[field]
                if kind == FeatureType.TOKEN:
                    feat[field] = feat[field].fillna(0)
                elif kind == FeatureType.FLOAT:
                    feat[field] = feat[field].fillna(feat[field].mean())
        original(self)

    _fill_nan.fills_columns = True
    Dataset._fill_nan = _fill_nan


def read_missing_sequences():
    """Likewise where RecBole reads a file: a missing sequence becomes an empty one.

    RecBole's module of the data set gets a ``pandas`` with a ``read_csv`` that does it.
    """
    from recbole.data.dataset import dataset

    dataset.pd = PandasOfDataSet()


def measure_each_sequence():
    """pandas 3 takes ``Series.agg(len)`` for the number of rows; RecBole wants the length of each value.

    ``Series.agg`` is wrapped; only calls with ``len`` from inside ``recbole`` differ from before.
    """
    original = pd.Series.agg
    if getattr(original, "measures_each", False):
        return

    @functools.wraps(original)
    def agg(self, func=None, *args, **kwargs):
        if func is len and sys._getframe(1).f_globals.get("__name__", "").startswith("recbole."):
            return self.map(len)
        return original(self, func, *args, **kwargs)

    agg.measures_each = True
    pd.Series.agg = agg


class PandasOfDataSet:
    """What RecBole's module of the data set asks of ``pandas``."""

    def __getattr__(self, name):
        return getattr(pd, name)

    @staticmethod
    def read_csv(*args, **kwargs):
        table = pd.read_csv(*args, **kwargs)
        for column in table:
            if str(column).endswith("_seq"):  # the header is FIELD:TYPE
                table[column] = table[column].fillna("")
        return table


def open_tensorboard_when_it_is_written():
    """RecBole's trainer opens a file of TensorBoard, with a thread, for a model that is only tested.

    Every trainer that a process makes would keep its thread.
    """
    from recbole.utils import utils

    if getattr(utils.SummaryWriter, "opens_late", False):
        return

    class LateWriter(utils.SummaryWriter):
        opens_late = True
        _made = False

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._made = True

        def _get_file_writer(self):
            return super()._get_file_writer() if self._made else None

    utils.SummaryWriter = LateWriter


def draw_grids_with_a_current_hyperopt():
    """hyperopt 0.2.7 and later draw with ``Generator.integers``, but RecBole's exhaustive search gives
    them a ``RandomState``, which has no such method: ``algo="exhaustive"`` fails in the first trial.

    RecBole's module of tuning gets a ``RandomState`` that has both names.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _NumpyOfTuning


class _RandomState(np.random.RandomState):
    def integers(self, low, high=None, size=None):
        return self.randint(low, high, size)


class _NumpyOfTuning:
    """What RecBole's module of tuning asks of ``numpy``; its plots need ``np.str``."""

    array, prod, str = staticmethod(np.array), staticmethod(np.prod), str

    class random:
        RandomState = _RandomState


def import_sklearn_when_it_is_called():
    """RecBole's metrics import scikit-learn, and so scipy's statistics, for AUC, MAE and RMSE alone."""
    if "sklearn" not in sys.modules:
        AroundImport.install(METRICS, _late_sklearn)


def import_the_compiler_when_it_is_called():
    """torch's optimizers import its compiler (torch._dynamo), 2 s of work, to exclude methods of theirs
    from what it compiles, also where nothing is compiled.

    Their steps still record no gradients; where the compiler is loaded already, nothing is changed.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in OPTIMIZER_METHODS:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None:
            vars(method).setdefault("__dynamo_disable", method)
    for optimizer in vars(torch.optim).values():
        step = vars(optimizer).get("step") if isinstance(optimizer, type) else None
        if step is not None and step.__code__.co_name == "_use_grad":
            optimizer.step = torch.no_grad()(step.__wrapped__)


def _late_sklearn() -> AbstractContextManager[None]:
    package, metrics = ModuleType("sklearn"), ModuleType("sklearn.metrics")
    metrics.__getattr__ = _late_metric  # type: ignore[method-assign]
    package.metrics = metrics  # type: ignore[attr-defined]
    return stand_ins({"sklearn": package, "sklearn.metrics": metrics})


def _late_metric(name: str) -> Callable:
    if name.startswith("__"):  # what the import system asks of a module
        raise AttributeError(name)

    def metric(*arguments, **options):
        function = getattr(importlib.import_module("sklearn.metrics"), name)
        return function(*arguments, **options)

    metric.__name__ = name
    return metric
