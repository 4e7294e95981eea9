"""Patches of RecBole 1.2 for current versions of numpy, pandas and torch: one function per reason.

Every patch is narrow (it affects RecBole's own calls, not the process) and may be applied twice.
Once RecBole no longer needs it, delete its function and its entry in
:mod:`~recbole_mm.integration.patch_list`.
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
    """Restore four aliases that RecBole's Config reads and numpy 2 dropped."""
    for name, scalar in NUMPY_ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, scalar)


def silence_warnings_without_a_remedy():
    """Silence warnings at lines of RecBole that a user cannot fix.

    Among them: torch's about ``torch.cuda.amp.GradScaler`` and pandas' about chained ``fillna`` and
    ``Series.agg(len)``. Warnings at the user's and our own lines are still shown.
    """
    for category in (FutureWarning, DeprecationWarning, pd.errors.ChainedAssignmentError):
        warnings.filterwarnings("ignore", category=category, module=r"recbole\.")
    # columns of pandas 3 are read-only, and RecBole does not write to its tensors of them
    message = "The given NumPy array is not writable"
    warnings.filterwarnings("ignore", message, category=UserWarning, module=r"recbole\.")
    # when Python 3.12 compiles formulas in docstrings; the module is a path here
    warnings.filterwarnings("ignore", "invalid escape", SyntaxWarning, r".*\brecbole\b")


def switch_off_anomaly_detection():
    """Switch off autograd's anomaly detection, which RecBole's SINE switches on when imported.

    It checks every gradient of every model of the process for NaN and halves the speed. To use it,
    call ``torch.autograd.set_detect_anomaly(True)`` after the import.
    """
    importlib.import_module("recbole.model.sequential_recommender.sine")
    torch.autograd.set_detect_anomaly(False)


def leave_numbers_in_the_collector():
    """Let the collector keep numbers: it calls ``.cpu()`` on everything, but ItemCoverage,
    GiniIndex and similar metrics store counts in it.

    The counts are removed while RecBole's function moves the tensors, then put back.
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
    """Keep submodules out of checkpoints: FDSA and SASRecF pickle one, and with it the whole data
    set.

    Such a checkpoint names more classes than can be allowed when it is loaded. The submodule's
    parameters are in the ``state_dict`` as well, so it is omitted from the other parameters.
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
    """Let two processes create the same missing folder; in RecBole, the slower one fails.

    RecBole's modules import ``ensure_dir`` by name, so it is replaced in each loaded module.
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
    """Restore ``dok_matrix._update``, which RecBole's graph models use and scipy 1.13 dropped.

    LightGCN, NGCF, GCMC, NCL, SpectralCF, KGIN and MCCLK call it. Only the missing name is added.
    """
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return

    def _update(self, data):
        self._dict.update(data)

    dok_matrix._update = _update


def leave_pickled_data_sets_closed():
    """Prevent RecBole from unpickling a data set that a key names or that is in ``checkpoint_dir``.

    Unpickling executes any code from the author of the file, which may come with a checkpoint whose
    configuration names it. RecBole's data module gets a ``pickle`` that reads nothing.
    """
    from recbole.data import utils

    utils.pickle = ClosedPickle


class ClosedPickle:
    """The part of ``pickle`` that RecBole's data module uses."""

    dump = staticmethod(pickle.dump)

    @staticmethod
    def load(file):
        raise ConfigError(
            f"{file.name}: a data set that RecBole has pickled. Reading it executes any code in it, "
            f"so it is not read after `import recbole_mm`. Delete the file or move it out of "
            f"checkpoint_dir; the data set is loaded from its .inter file"
        )


def share_the_empty_set_of_used_items():
    """Share one empty set among all users: RecBole's RepeatableSampler creates one of 216 bytes for
    each user, for the validation and again for the test. Nothing is added to these sets.
    """
    from recbole.sampler import RepeatableSampler

    def get_used_ids(self):
        return np.full(self.user_num, set(), dtype=object)

    get_used_ids.shares_the_set = True
    RepeatableSampler.get_used_ids = get_used_ids


def fill_missing_values():
    """Fill missing values, since with pandas 3 RecBole's ``feat[field].fillna(inplace=True)`` has
    no effect on the column.

    Missing ids become 0, and missing numbers the mean of their column, before RecBole's own
    function.
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
    """Replace missing sequences by empty ones when RecBole reads a file.

    RecBole's data set module gets a ``pandas`` with a ``read_csv`` that does this.
    """
    from recbole.data.dataset import dataset

    dataset.pd = PandasOfDataSet()


def measure_each_sequence():
    """Make ``Series.agg(len)`` return the length of each value, as RecBole expects; in pandas 3 it
    is the number of rows.

    ``Series.agg`` is wrapped; only calls with ``len`` from inside ``recbole`` behave differently.
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
    """The ``pandas`` that RecBole's data set module uses."""

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
    """Open TensorBoard's file only when it is written: RecBole's trainer opens one, with a thread,
    even for a model that is only tested.

    Every trainer that a process creates would keep its thread.
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
    """Give RecBole's tuning module a ``RandomState`` with the method ``integers``.

    hyperopt 0.2.7 and later draw with ``Generator.integers``, but RecBole's exhaustive search
    passes them a ``RandomState`` without this method: ``algo="exhaustive"`` fails in the first
    trial.
    """
    from recbole.trainer import hyper_tuning

    hyper_tuning.np = _NumpyOfTuning


class _RandomState(np.random.RandomState):
    def integers(self, low, high=None, size=None):
        return self.randint(low, high, size)


class _NumpyOfTuning:
    """The part of ``numpy`` that RecBole's tuning module uses; its plots need ``np.str``."""

    array, prod, str = staticmethod(np.array), staticmethod(np.prod), str

    class random:
        RandomState = _RandomState


def import_sklearn_when_it_is_called():
    """Delay the import of scikit-learn, and with it scipy's statistics, which RecBole's metrics
    only need for AUC, MAE and RMSE."""
    if "sklearn" not in sys.modules:
        AroundImport.install(METRICS, _late_sklearn)


def import_the_compiler_when_it_is_called():
    """Delay the import of torch's compiler (torch._dynamo), which takes 2 s: torch's optimizers
    import it to exclude their methods from compilation, even if nothing is compiled.

    Their steps still record no gradients; if the compiler is already loaded, nothing is changed.
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
    if name.startswith("__"):  # requested by the import system
        raise AttributeError(name)

    def metric(*arguments, **options):
        function = getattr(importlib.import_module("sklearn.metrics"), name)
        return function(*arguments, **options)

    metric.__name__ = name
    return metric
