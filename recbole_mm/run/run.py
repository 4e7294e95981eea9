"""Train, validate and test a model on a data set: one function for our models and RecBole's."""

import logging
import resource
import secrets
import sys
import tempfile
import time
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import AbstractDataLoader
from recbole.trainer import AbstractTrainer
from recbole.utils import (
    get_model,
    get_trainer,
    init_logger,
    init_seed,
)
from torch import nn

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import keys_of_other_models
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS, needs_item_columns
from recbole_mm.config.values import parse_value
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.integration.register import multi_modal_dataset_for
from recbole_mm.prepare.catalog import require_dataset
from recbole_mm.run.stages import Stage, plan_stages
from recbole_mm.tools import processes
from recbole_mm.tools.errors import RunFailed
from recbole_mm.tools.memory import keep_freed_memory
from recbole_mm.training.trainer import MultiModalTrainer, RankCollector, trainable_parameters
from recbole_mm.transfer.pretrained import freeze, start_from_config


class TrainingError(RunFailed):
    """Training that cannot continue."""


class Prepared(NamedTuple):
    """A run with all its parts in place and nothing computed yet."""

    config: Config
    trainer: AbstractTrainer
    train_data: AbstractDataLoader
    valid_data: AbstractDataLoader
    test_data: AbstractDataLoader


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    stage: dict | None = None,
    overrides: dict | None = None,
) -> dict:
    """Run one stage from its configuration's layers; see :func:`recbole_mm.config.load_config`.

    Returns:
        What :func:`fit_and_evaluate` returns.

    Raises:
        ConfigError: the configuration, the data set or a folder to write to is not usable;
            nothing has been computed then.
    """
    processes.start()
    config = load_config(model, dataset, config_files, config_dict, stage, overrides)
    require_dataset(config)
    _start_writing(config)
    unread = keys_of_other_models(config["model"], overrides or ())
    if unread:
        getLogger().warning(f"{config['model']} does not read {', '.join(unread)}: no effect")
    return train_and_test(_prepare_input(config))


def run_stages(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    overrides: dict | None = None,
) -> list[dict]:
    """Run the stages that the configuration lists; see :mod:`recbole_mm.run.stages`.

    A stage that is finished is not run again, and one that was killed goes on where it was.

    Returns:
        The result of each stage, as :func:`fit_and_evaluate` returns it.

    Raises:
        ConfigError: as :func:`run`; the data are loaded and the models made of all stages before
            one is trained.
    """
    processes.start()
    stages = plan_stages(model, dataset, config_files, config_dict, overrides)
    for stage in stages:
        require_dataset(stage.config)
    results, checked = [], False
    for number, stage in enumerate(stages, 1):
        if stage.source is not None:
            stage.config["pre_model_path"] = results[stage.source]["checkpoint"]
        if not checked and stage.result() is None:
            for later, coming in enumerate(stages[number:], number + 1):
                check_stage(coming, f"stage {later} ({coming})")
            checked = True
        results.append(run_stage(stage, f"stage {number} of {len(stages)}"))
    return results


def check_stage(stage: Stage, called: str):
    """Load the data of a stage and make its model, to know now what would end it later.

    Raises:
        ConfigError: what ends it, and the stage.
    """
    try:
        _, model = _load(stage.config)
        freeze(model, stage.config["freeze"] or [])
    except ValueError as error:
        raise ConfigError(f"{called}: {error}") from error


def run_stage(stage: Stage, called: str = "stage") -> dict:
    """Run one stage, the rest of it, or nothing if it is finished."""
    _start_writing(stage.config)
    result = stage.result()
    if result is not None:
        getLogger().info(f"{called} ({stage}) is finished: {stage.path('.json')}")
        return result
    getLogger().info(f"{called}: {stage}")
    prepared = _prepare_input(stage.config)
    keep_progress(prepared, stage.path(".pth"), stage.path(".progress.pth"))
    result = train_and_test(prepared)
    if processes.is_first():
        stage.finish(result)
    processes.barrier()
    return result


def _start_writing(config: Config):
    for folder in ("log", "log_tensorboard", config["checkpoint_dir"]):
        require_writable(
            folder,
            "Start in another folder (log/, log_tensorboard/ and saved/ are written to the working "
            "directory) or give --checkpoint_dir=FOLDER",
        )
    start_logging(config)


def _prepare_input(config: Config) -> Prepared:
    try:
        return prepare(config)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def fit_and_evaluate(config: Config, saved: bool = True, verbose: bool = True) -> dict:
    """Train until RecBole's early stopping, then test the best epoch.

    Every sequential model gets our data set class, hence the same split, event order and
    candidates; RecBole's own models keep their own trainer.

    Args:
        config: of any model that RecBole knows by name.
        saved: keep the best epoch in a checkpoint and test that one; otherwise the last epoch.
        verbose: log every epoch.

    Returns:
        ``model``, ``dataset``, ``train_stage``, ``use_item_id``, ``pre_model_path`` (as
        configured), ``knows_query_time``, ``valid_metric``, ``best_valid_score``,
        ``valid_score_bigger``, ``best_valid_result``, ``test_result`` (as RecBole returns them),
        ``best_epoch`` (from 0),
        ``epochs`` (trained), ``history`` (of each validated epoch: ``epoch``, ``valid_score``,
        ``seconds`` since the start), ``seconds`` (training to test), ``seconds_per_epoch`` and
        ``seconds_per_validation`` (means), ``n_parameters`` (trainable), ``peak_memory`` and
        ``peak_gpu_memory`` (bytes; of the process so far), ``checkpoint`` (path or None).
    """
    return train_and_test(prepare(config), saved, verbose)


def prepare(config: Config) -> Prepared:
    """Load the data and make the model and its trainer, with a line in the log about each.

    Raises:
        ValueError: data, features or values of the configuration that cannot be used.
    """
    logger = getLogger()
    keep_freed_memory()
    logger.info(config)
    loaders, model = _load(config)
    start_from_config(model, config)
    logger.info(model)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    if processes.size() > 1 and not isinstance(trainer, MultiModalTrainer):
        raise ValueError(
            f"{config['model']} trains in one process; torchrun is for {', '.join(MODELS)}."
        )
    # RecBole's name is of the second: runs that start together would share it
    name = Path(trainer.saved_model_file)
    name = name.with_stem(f"{name.stem}-{secrets.token_hex(3)}")
    trainer.saved_model_file = processes.of_first(str(name))
    trainer.eval_collector = RankCollector(config)
    trainer.history = []
    torch.manual_seed(config["seed"] + processes.rank())  # each process has a dropout of its own
    return Prepared(config, trainer, *loaders)


def _load(config: Config) -> tuple[list[AbstractDataLoader], nn.Module]:
    """Training, validation and test data, and the model, with its initial parameters."""
    logger = getLogger()
    init_seed(config["seed"], config["reproducibility"])
    ensure_builtin(config)
    with multi_modal_dataset_for(config["model"]):
        dataset = create_dataset(config)
    logger.info(dataset)
    columns = config["selected_features"] if needs_item_columns(config["model"]) else None
    for field in columns or ():
        if field not in dataset.field2type:
            raise ValueError(
                f"{config['model']} reads the column {field!r} of the items (selected_features), "
                f"which is not loaded from data set {config['dataset']!r}. Name columns of its "
                f".item file in selected_features and in load_col: {{item: [item_id, ...]}}"
            )
    loaders = make_loaders(config, dataset)

    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    model = get_model(config["model"])(config, loaders[0]._dataset).to(config["device"])
    return loaders, model


def make_loaders(config: Config, dataset) -> list[AbstractDataLoader]:
    """Training, validation and test data; of several processes, each gets its share of them."""
    size = config["train_batch_size"]
    config["train_batch_size"] = size * processes.size()
    loaders = data_preparation(config, dataset)
    config["train_batch_size"] = size
    if not any(map(len, loaders[1:])):
        getLogger().warning(
            f"data set {config['dataset']!r} leaves nothing to validate or test by: leave-one-out "
            f"needs a user with three events"
        )
    processes.split_batches(loaders[0])
    return loaders


def keep_progress(prepared: Prepared, best: Path, latest: Path):
    """Keep the best and the latest epoch in these files, and go on from them if they are there.

    RecBole's own trainer keeps the best epoch only and starts anew.
    """
    prepared.trainer.saved_model_file = str(best)
    prepared.trainer.progress_file = latest
    if latest.is_file():
        prepared.trainer.resume_progress(prepared.train_data)


def train_and_test(prepared: Prepared, saved: bool = True, verbose: bool = True) -> dict:
    """The second half of :func:`fit_and_evaluate`."""
    config, trainer, train_data, valid_data, test_data = prepared
    started = time.perf_counter()
    training = _Stopwatch(trainer, "_train_epoch")
    validation = _Stopwatch(trainer, "_valid_epoch")
    before = trainer.history[-1]["seconds"] if trainer.history else 0.0

    def record(epoch, score):
        seconds = before + time.perf_counter() - started
        trainer.history.append({"epoch": epoch, "valid_score": float(score), "seconds": seconds})

    try:
        best_valid_score, best_valid_result = trainer.fit(
            train_data,
            valid_data,
            verbose=verbose,
            saved=saved,
            show_progress=config["show_progress"],
            callback_fn=record,
        )
    except ValueError as error:
        if "loss is nan" not in str(error):  # RecBole's
            raise
        raise TrainingError(
            f"the loss of {config['model']} is not a number in epoch "
            f"{trainer.start_epoch + training.calls}: lower learning_rate "
            f"({config['learning_rate']}), set clip_grad_norm, or look for huge values in the features"
        ) from error
    if len(valid_data) == 0:  # a split without validation targets
        best_valid_score = None
    elif best_valid_result is None:  # not validated on the way: epochs or eval_step is 0
        best_valid_score, best_valid_result = trainer._valid_epoch(valid_data)
    scores = {entry["epoch"]: entry["valid_score"] for entry in trainer.history}
    test_result = trainer.evaluate(
        test_data,
        load_best_model=saved and config["epochs"] > 0,
        show_progress=config["show_progress"],
    )
    return {
        "model": config["model"],
        "dataset": config["dataset"],
        "train_stage": config["train_stage"],
        "use_item_id": config["use_item_id"],
        "pre_model_path": config["pre_model_path"],
        "knows_query_time": knows_query_time(config),
        "valid_metric": config["valid_metric"].lower(),
        "best_valid_score": best_valid_score,
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": best_valid_result,
        "test_result": test_result,
        # RecBole keeps the later one of two equal scores
        "best_epoch": max((e for e in scores if scores[e] == best_valid_score), default=None),
        "epochs": trainer.start_epoch + training.calls,
        "history": trainer.history,
        "seconds": before + time.perf_counter() - started,
        "seconds_per_epoch": training.mean(),
        "seconds_per_validation": validation.mean(),
        "n_parameters": trainable_parameters(trainer.model),
        "peak_memory": peak_memory(),
        "peak_gpu_memory": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
        "checkpoint": trainer.saved_model_file if saved else None,
    }


def objective_function(config_dict=None, config_file_list=None, saved: bool = True) -> dict:
    """The function that RecBole's HyperTuning minimizes or maximizes, for any model.

    Unlike RecBole's it needs no ray, refuses unknown keys and compares all models on the same
    split. Strings are read like values of the command line.

    Args:
        config_dict: one point of the search space.
        config_file_list: yaml files that name the model, the data set and all that is fixed.
        saved: as in :func:`fit_and_evaluate`.
    """
    values = {
        key: parse_value(value) if isinstance(value, str) else value
        for key, value in (config_dict or {}).items()
    }
    config = load_config(config_files=config_file_list or (), config_dict=values)
    require_dataset(config)
    start_logging(config)
    return fit_and_evaluate(config, saved=saved, verbose=False)


def knows_query_time(config: Config) -> bool:
    """Whether the model reads when the recommendation is asked for, the time of the target."""
    reads_time = config["use_time"] and config["query_time"]
    return bool(reads_time and (config["released"] or config["query_time"] == "request"))


def require_writable(folder, fix: str):
    """Create the folder and write to it once.

    Args:
        folder: its path.
        fix: what to do if that fails.

    Raises:
        ConfigError: it cannot be done.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"cannot write to the folder {str(Path(folder).absolute())!r}: {error.strerror}. {fix}"
        ) from None


def start_logging(config: Config):
    """RecBole's log file and console, in place of those of the run before."""
    root = logging.getLogger()
    if not processes.is_first():
        config["show_progress"] = False
        root.setLevel(logging.ERROR)
        return
    for handler in _our_handlers:
        root.removeHandler(handler)
        handler.close()
    before = list(root.handlers)
    init_logger(config)
    _our_handlers[:] = [handler for handler in root.handlers if handler not in before]
    for handler in _our_handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(lambda record: not hasattr(record, PRINTED))


_our_handlers: list[logging.Handler] = []
PRINTED = "printed"
"""Marks a record that the console has from stdout."""


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Stopwatch:
    """Counts and times the calls of one method of one object."""

    def __init__(self, owner, name: str):
        self.calls, self.seconds = 0, 0.0
        method = getattr(owner, name)

        def timed(*args, **kwargs):
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.calls += 1
                self.seconds += time.perf_counter() - started

        setattr(owner, name, timed)

    def mean(self) -> float:
        return self.seconds / max(self.calls, 1)
