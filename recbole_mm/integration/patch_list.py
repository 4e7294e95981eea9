"""All changes to RecBole: what each change needs, and what breaks without it.

A change is not applied if a newer RecBole has moved something that it needs; the import of RecBole
then fails with an error that names the change, and ``recbole-mm doctor`` names it too.
"""

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from recbole_mm.integration import lookup, patches, register
from recbole_mm.integration.lookup import QUICK_START, RUN_FUNCTIONS
from recbole_mm.integration.recbole_checkpoints import load_checkpoints_of_recbole
from recbole_mm.tools.extras import unfit_package
from recbole_mm.tools.imports import AroundImport
from recbole_mm.tools.recbole_version import INSTALL, RecBoleError


class Patch(NamedTuple):
    """One change to RecBole.

    Attributes:
        apply: function that makes the change; it may be called again.
        needs: names that RecBole must have, as ``module:name.name``, or ``module:name uses word``
            for a function whose code must use the word.
        breaks: description of what does not work without the change.
        is_on: function that tells whether the change is in effect.
    """

    apply: Callable[[], None]
    needs: tuple[str, ...]
    breaks: str
    is_on: Callable[[], bool]

    @property
    def name(self) -> str:
        return self.apply.__name__

    def problem(self, quick_start: bool = True) -> str | None:
        """Apply the change; return why that fails or has no effect, ``None`` if it works.

        Args:
            quick_start: whether RecBole's quick start is checked too, even if not imported yet.

        Raises:
            ImportError: another package than RecBole cannot be imported.
        """
        quick_start = quick_start or QUICK_START in sys.modules
        needs = [need for need in self.needs if quick_start or not need.startswith(QUICK_START)]
        missing = [need.replace(":", ".") for need in needs if not _exists(need)]
        if missing:
            return f"RecBole has no {', no '.join(missing)}"
        try:
            self.apply()
        except AttributeError as error:
            return str(error)
        except ImportError as error:
            _raise_unless_of_recbole(error)
            return str(error)
        return None if self.is_on() else "it was applied, but has no effect"


class Failure(NamedTuple):
    """A patch that does not apply.

    Attributes:
        patch: patch that failed.
        reason: reason as text.
    """

    patch: Patch
    reason: str


class PatchError(RecBoleError):
    """The installed RecBole has moved what is patched.

    Args:
        failures: patches that do not apply.
    """

    def __init__(self, failures: Sequence[Failure]):
        self.failures = list(failures)
        version = getattr(sys.modules.get("recbole"), "__version__", "")
        listing = "; ".join(
            f"{patch.name}: {reason} (it is needed for {patch.breaks})"
            for patch, reason in failures
        )
        super().__init__(
            f"RecBole {version} is not supported, patches do not apply: {listing}. Install the "
            f"release that they were made for: {INSTALL}; see recbole-mm doctor for more"
        )


def patch_before_import() -> None:
    """Apply what is needed before RecBole is imported or a Config is created.

    Raises:
        PatchError: a patch does not apply.
    """
    _apply(BEFORE_IMPORT)


def patch_after_import() -> None:
    """Patch RecBole's own classes and register our models.

    Raises:
        PatchError: a patch does not apply.
    """
    _apply(AFTER_IMPORT)


def _apply(listed: Sequence[Patch]) -> None:
    problems = [(patch, patch.problem(quick_start=False)) for patch in listed]
    failures = [Failure(patch, problem) for patch, problem in problems if problem]
    if failures:
        raise PatchError(failures)


def _exists(need: str) -> bool:
    place, _, word = need.partition(" uses ")
    module_name, _, path = place.partition(":")
    try:
        found = importlib.import_module(module_name)
    except ImportError as error:
        _raise_unless_of_recbole(error)
        return False
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is not None and (not word or word in inspect.unwrap(found).__code__.co_names)


def _raise_unless_of_recbole(error: ImportError) -> None:
    """Raise an error that is about a missing or incompatible package other than RecBole; what
    RecBole itself lacks has moved."""
    if unfit_package(error) != "recbole":
        raise error


def _has_mark(module: str, path: str, mark: str) -> bool:
    """Whether a function or class in a loaded module has the mark set by our replacement."""
    found = sys.modules[module]
    for name in path.split("."):
        found = getattr(found, name)
    return hasattr(found, mark)


def _run_functions_are_ours() -> bool:
    quick_start = sys.modules.get(QUICK_START)
    ours = "recbole_mm.integration.spawned"
    return quick_start is None or quick_start.run_recbole.__module__ == ours


BEFORE_IMPORT = (
    Patch(
        patches.restore_numpy_aliases,
        (),
        "every configuration",
        lambda: all(hasattr(np, name) for name in patches.NUMPY_ALIASES),
    ),
    Patch(
        patches.silence_warnings_without_a_remedy,
        (),
        "a console without warnings at RecBole's own lines",
        lambda: any(
            module is not None and module.pattern == r"recbole\."
            for _, _, _, module, _ in warnings.filters
        ),
    ),
    Patch(
        patches.import_sklearn_when_it_is_called,
        (),
        "a fast start: every command and every process of a comparison would import scikit-learn",
        lambda: (
            AroundImport.waits_for(patches.METRICS)
            or bool({patches.METRICS, "sklearn"} & set(sys.modules))
        ),
    ),
)
AFTER_IMPORT = (
    Patch(
        patches.import_the_compiler_when_it_is_called,
        (),
        "a fast start: every training would import torch's compiler",
        lambda: (
            "torch._dynamo" in sys.modules or torch.optim.Adam.step.__code__.co_name != "_use_grad"
        ),
    ),
    Patch(
        register.look_among_sequential_models_first,
        ("recbole.utils.utils:get_model uses import_module",),
        "a fast start: every command would import all of RecBole's general models, and scikit-learn",
        lambda: _has_mark("recbole.utils", "get_model", "__wrapped__"),
    ),
    Patch(
        patches.switch_off_anomaly_detection,
        ("recbole.model.sequential_recommender.sine:SINE",),
        "full speed: autograd would check every gradient for NaN",
        lambda: not torch.is_anomaly_enabled(),
    ),
    Patch(
        patches.leave_numbers_in_the_collector,
        ("recbole.evaluator:Collector.get_data_struct",),
        "the metrics ItemCoverage, AveragePopularity, ShannonEntropy, GiniIndex and TailPercentage",
        lambda: _has_mark("recbole.evaluator", "Collector.get_data_struct", "leaves_numbers"),
    ),
    Patch(
        load_checkpoints_of_recbole,
        (
            "recbole.trainer:Trainer.resume_checkpoint uses load",
            "recbole.trainer:Trainer.evaluate uses load",
            f"{QUICK_START}:load_data_and_model uses load",
        ),
        "testing and resuming from a checkpoint, without executing code in it",
        lambda: hasattr(torch.load, "loads_recbole"),
    ),
    Patch(
        patches.keep_modules_out_of_other_parameters,
        ("recbole.model.abstract_recommender:AbstractRecommender.other_parameter",),
        "checkpoints of FDSA and SASRecF",
        lambda: _has_mark(
            "recbole.model.abstract_recommender",
            "AbstractRecommender.other_parameter",
            "leaves_modules",
        ),
    ),
    Patch(
        patches.let_several_processes_make_a_folder,
        ("recbole.utils.utils:ensure_dir",),
        "runs that start at the same time",
        lambda: _has_mark("recbole.utils.utils", "ensure_dir", "may_exist"),
    ),
    Patch(
        patches.give_sparse_matrices_their_update,
        (),
        "RecBole's graph models",
        lambda: hasattr(importlib.import_module("scipy.sparse").dok_matrix, "_update"),
    ),
    Patch(
        patches.leave_pickled_data_sets_closed,
        (
            "recbole.data.utils:create_dataset uses pickle",
            "recbole.data.utils:load_split_dataloaders uses pickle",
        ),
        "safety: a data set next to a checkpoint would be unpickled, which executes code in it",
        lambda: sys.modules["recbole.data.utils"].pickle is patches.ClosedPickle,
    ),
    Patch(
        patches.share_the_empty_set_of_used_items,
        (
            "recbole.sampler.sampler:AbstractSampler.__init__ uses get_used_ids",
            "recbole.sampler:RepeatableSampler.sample_by_user_ids uses used_ids",
        ),
        "memory: a data set of a million users would take 400 MB more",
        lambda: _has_mark("recbole.sampler", "RepeatableSampler.get_used_ids", "shares_the_set"),
    ),
    Patch(
        patches.fill_missing_values,
        ("recbole.data.dataset:Dataset._fill_nan",),
        "missing values in a data set, with pandas 3",
        lambda: _has_mark("recbole.data.dataset", "Dataset._fill_nan", "fills_columns"),
    ),
    Patch(
        patches.read_missing_sequences,
        ("recbole.data.dataset.dataset:Dataset._load_feat uses read_csv",),
        "missing sequences in a data set, with pandas 3",
        lambda: isinstance(sys.modules["recbole.data.dataset.dataset"].pd, patches.PandasOfDataSet),
    ),
    Patch(
        patches.measure_each_sequence,
        (),
        "columns of sequences in a data set, with pandas 3",
        lambda: hasattr(importlib.import_module("pandas").Series.agg, "measures_each"),
    ),
    Patch(
        patches.open_tensorboard_when_it_is_written,
        (
            "recbole.utils.utils:get_tensorboard uses SummaryWriter",
            "torch.utils.tensorboard:SummaryWriter._get_file_writer",
        ),
        "models that are only tested: each would keep a thread and a file of TensorBoard",
        lambda: _has_mark("recbole.utils.utils", "SummaryWriter", "opens_late"),
    ),
    Patch(
        patches.draw_grids_with_a_current_hyperopt,
        ("recbole.trainer.hyper_tuning:exhaustive_search uses RandomState",),
        "RecBole's HyperTuning with algo='exhaustive'",
        lambda: hasattr(
            sys.modules["recbole.trainer.hyper_tuning"].np.random.RandomState, "integers"
        ),
    ),
    Patch(
        register.answer_by_name,
        (
            "recbole.utils.utils:get_model uses import_module",
            "recbole.utils.utils:get_trainer uses import_module",
            "recbole.data.utils:create_dataset uses import_module",
        ),
        "our models, their data sets and their trainers, by name",
        lambda: (
            any(isinstance(finder, lookup.ModelFinder) for finder in sys.meta_path)
            and _has_mark("recbole", "trainer", "_answers_for_recbole_mm")
        ),
    ),
    Patch(
        register.layer_our_property_files,
        (
            "recbole.config:Config._get_model_and_dataset",
            "recbole.config:Config._load_internal_config_dict",
            "recbole.config:Config.__init__ uses _get_model_and_dataset",
            "recbole.config:Config.__init__ uses _load_internal_config_dict",
        ),
        "the defaults of our models in RecBole's own functions",
        lambda: _has_mark("recbole.config", "Config", "layers_our_files"),
    ),
    Patch(
        register.load_data_as_our_commands_did,
        ("recbole.data.utils:create_dataset",),
        "RecBole's load_data_and_model on checkpoints of our commands",
        lambda: _has_mark("recbole.data.utils", "create_dataset", "__wrapped__"),
    ),
    Patch(
        register.send_run_functions_through_this_package,
        tuple(f"{QUICK_START}:{name}" for name in RUN_FUNCTIONS),
        "our models in processes that RecBole's functions start",
        _run_functions_are_ours,
    ),
)
