"""A single run: a configuration with its data, model and trainer, trained and tested."""

from collections.abc import Callable, Iterable
from logging import getLogger
from pathlib import Path

import torch
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import get_model, get_trainer, init_seed

from recbole_mm.config.keys import keys_of_other_models
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.plain import config_to_plain
from recbole_mm.config.values import parse_value
from recbole_mm.integration.recbole_checkpoints import read_checkpoint_of_recbole
from recbole_mm.model.abstract_recommender import MultiModalRecommender
from recbole_mm.run.logs import start_logging
from recbole_mm.run.requirements import refuse_unfit_stage
from recbole_mm.run.result import Result
from recbole_mm.run.splits import Splits, find_or_make, load_splits
from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError, user_errors
from recbole_mm.tools.files import set_aside
from recbole_mm.tools.interrupts import leaving
from recbole_mm.tools.memory import keep_freed_memory, peak_memory
from recbole_mm.tools.torch_files import TorchFileError
from recbole_mm.training.optimizers import build_optimizer, trained_numbers
from recbole_mm.training.recorded import recorded
from recbole_mm.training.trainer import MultiModalTrainer
from recbole_mm.transfer.checkpoints import read_checkpoint
from recbole_mm.transfer.pretrained import (
    Pretrained,
    freeze_from_config,
    start_from,
    start_from_config,
)

NAMES = ("model", "dataset")
"""Keys whose values are always text."""


class Run:
    """A run that is set up but not yet trained.

    Every sequential model gets our data set class, hence the same split, event order and
    candidates; RecBole's own models keep their own trainer.

    Args:
        config: configuration of any model that RecBole knows by name.

    Attributes:
        config: see above.
        splits: training, validation and test data.
        model: model on the device of ``config``, with the parameters that training starts from.
        trainer: RecBole's or ours, recorded (:mod:`recbole_mm.training.recorded`).

    Raises:
        UserError: data, features, a checkpoint or values of the configuration cannot be used.
    """

    def __init__(self, config):
        keep_freed_memory()
        getLogger().info(config)
        self.config = config
        self._open()
        getLogger().info(self.model)
        if processes.size() > 1 and not isinstance(self.trainer, MultiModalTrainer):
            raise UserError(
                f"{config['model']} trains in one process; torchrun is for "
                f"{', '.join(MODELS)} and your own multi-modal models."
            )

    def _open(self) -> None:
        """Create data, model and trainer from scratch."""
        config = self.config
        self.splits, self.model = _load(config)
        with user_errors():
            trainer = recorded(get_trainer(config["MODEL_TYPE"], config["model"]))
            self.trainer = _made(trainer, config, self.model)
            self.trainer.start_from_config()
        if processes.size() > 1:  # each process has its own dropout
            torch.manual_seed(config["seed"] + processes.rank())

    @staticmethod
    def check(config, source: Pretrained | None = None) -> None:
        """Load the data and create the model, to find errors now that would end the run later.

        Args:
            config: configuration of the run.
            source: model that the run will start from, if that is not trained yet, see
                :meth:`untrained`; ``None``: ``pre_model_path``.

        Raises:
            UserError: the run would fail.
        """
        _, model = _load(config)
        with user_errors():
            if source is None:
                start_from_config(model, config)
            else:
                start_from(model, config, source, "the pretrain stage that it starts from")
            freeze_from_config(model, config)
            if isinstance(model, MultiModalRecommender):
                build_optimizer(config, model)

    @staticmethod
    def untrained(config) -> Pretrained:
        """The untrained version of what a run will provide for another one to start from."""
        _, model = _load(config)
        assert isinstance(model, MultiModalRecommender)
        return Pretrained(model.state_dict(), config_to_plain(config), model.feature_info, [])

    def keep_progress(self, best: Path, latest: Path) -> None:
        """Keep the best and the latest epoch in these files, and resume from them if they exist.

        Damaged files are set aside, and training starts from scratch. RecBole's own trainers keep
        only the best epoch and always start from scratch.
        """
        self._name_files(best, latest)
        if not isinstance(self.trainer, MultiModalTrainer) or not latest.is_file():
            return
        try:
            self.trainer.resume_progress(self.splits.train)
        except TorchFileError as error:
            set_aside(latest, error)
            self._open()  # the old parts may be partially resumed
            self._name_files(best, latest)

    def _name_files(self, best: Path, latest: Path) -> None:
        self.trainer.saved_model_file = str(best)
        if isinstance(self.trainer, MultiModalTrainer):
            self.trainer.progress_file = latest

    def load(self, checkpoint: Path) -> None:
        """Give the model the parameters that a run of the same configuration has saved.

        Raises:
            UserError: the file does not exist, is damaged, or holds something else.
        """
        is_ours = isinstance(self.trainer, MultiModalTrainer)
        read = read_checkpoint if is_ours else read_checkpoint_of_recbole
        content = read(checkpoint)
        self.model.load_state_dict(content["state_dict"])
        self.model.load_other_parameter(content.get("other_parameter"))

    def train(
        self,
        saved: bool = True,
        verbose: bool = True,
        on_validation: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train until RecBole's early stopping, or not at all with ``epochs: 0``.

        Args:
            saved: whether the best epoch is kept in a checkpoint.
            verbose: whether every epoch is logged.
            on_validation: callback that gets the epoch, from 0, and its score.

        Raises:
            LossIsNaN: see :mod:`recbole_mm.training.recorded`.
        """
        _, self._valid_result = self.trainer.fit(
            self.splits.train,
            self.splits.valid,
            verbose=verbose,
            saved=saved,
            show_progress=self.config["show_progress"],
            callback_fn=on_validation,
        )
        self._saved = saved

    def test(self) -> Result:
        """Test the best epoch, or the last one if none is saved.

        Call :meth:`train` first.
        """
        config, trainer = self.config, self.trainer
        best_score, valid_result = self.best_validation()
        test_result = trainer.evaluate(
            self.splits.test,
            load_best_model=self._saved and config["epochs"] > 0,
            show_progress=config["show_progress"],
        )
        scores = {entry["epoch"]: entry["valid_score"] for entry in trainer.history}
        return Result(
            model=config["model"],
            dataset=config["dataset"],
            train_stage=config["train_stage"],
            use_item_id=config["use_item_id"],
            pre_model_path=config["pre_model_path"],
            knows_query_time=knows_query_time(config),
            valid_metric=config["valid_metric"].lower(),
            valid_score_bigger=config["valid_metric_bigger"],
            best_valid_score=None if best_score is None else float(best_score),
            best_valid_result=_floats(valid_result),
            test_result=_floats(test_result),
            # RecBole keeps the later one of two equal scores
            best_epoch=max((e for e in scores if scores[e] == best_score), default=None),
            epochs=self.n_epochs,
            history=trainer.history,
            seconds=trainer.elapsed(),
            seconds_per_epoch=_mean(trainer.training_seconds),
            seconds_per_validation=_mean(trainer.validation_seconds),
            n_parameters=trained_numbers(trainer.optimizer),
            peak_memory=peak_memory(),
            peak_gpu_memory=torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
            checkpoint=trainer.saved_model_file if self._saved else None,
        )

    def what_is_kept(self) -> str:
        """A description of what an interrupted run keeps."""
        best = Path(self.trainer.saved_model_file)
        kept = f"the best epoch so far is {best}" if best.is_file() else "no epoch is kept"
        return f"{kept}; the same command starts over"

    @property
    def n_epochs(self) -> int:
        """Number of trained epochs, including those before an interruption."""
        return self.trainer.start_epoch + len(self.trainer.training_seconds)

    def best_validation(self) -> tuple[float | None, dict | None]:
        """Score and metrics of the best epoch, ``None`` without validation targets.

        Call :meth:`train` first.
        """
        if len(self.splits.valid) == 0:  # a split without validation targets
            return None, None
        if self._valid_result is None:  # not validated during training: epochs or eval_step is 0
            return self.trainer._valid_epoch(self.splits.valid)
        return self.trainer.best_valid_score, self._valid_result


def run(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    overrides: dict | None = None,
) -> Result:
    """Run one configuration; for its layers see :func:`recbole_mm.config.load.load_config`.

    Raises:
        UserError: the configuration, the data set or a folder to write to cannot be used; nothing
            was trained.
    """
    processes.start()
    config = load_config(model, dataset, config_files, config_dict, overrides=overrides)
    find_or_make(config)
    start_logging(config)
    warn_of_unread_keys(config["model"], overrides or ())
    opened = Run(config)
    with leaving(opened.what_is_kept):
        opened.train()
        return opened.test()


def warn_of_unread_keys(model: str, given: Iterable[str]) -> None:
    """Warn about keys that a user gives for one run and the model does not read."""
    unread = keys_of_other_models(model, given)
    if unread:
        getLogger().warning(f"{model} does not read {', '.join(unread)}: no effect")


def fit_and_evaluate(
    config,
    saved: bool = True,
    verbose: bool = True,
    on_validation: Callable[[int, float], None] | None = None,
) -> Result:
    """Train until RecBole's early stopping, then test the best epoch; see :class:`Run`.

    Args:
        config: configuration of any model that RecBole knows by name.
        saved: whether the best epoch is kept in a checkpoint and tested; otherwise the last epoch
            is.
        verbose: whether every epoch is logged.
        on_validation: callback that gets the epoch, from 0, and its score.
    """
    opened = Run(config)
    opened.train(saved, verbose, on_validation)
    return opened.test()


def objective_function(
    config_dict=None,
    config_file_list=None,
    saved: bool = True,
    on_validation: Callable[[int, float], None] | None = None,
) -> dict:
    """The function that RecBole's HyperTuning minimizes or maximizes, for any model.

    Unlike RecBole's, it does not need ray, refuses unknown keys and compares all models on the same
    split. Strings are read like values of the command line, where names are text.

    Args:
        config_dict: one point of the search space.
        config_file_list: yaml files that name the model, the data set and all fixed values.
        saved: see :func:`fit_and_evaluate`.
        on_validation: see :func:`fit_and_evaluate`; an exception that it raises ends the training.

    Returns:
        :class:`~recbole_mm.run.result.Result` as a dict.
    """
    values = {
        key: parse_value(value) if isinstance(value, str) and key not in NAMES else value
        for key, value in (config_dict or {}).items()
    }
    config = load_config(config_files=config_file_list or (), config_dict=values)
    start_logging(config)
    return fit_and_evaluate(config, saved, False, on_validation).to_dict()


def knows_query_time(config) -> bool:
    """Whether the model reads the time of the request, i.e. of the target."""
    reads_target = config["query_time"] == "request" or config["time_input"] == "padded_differences"
    return bool(config["use_time"] and reads_target)


def _load(config) -> tuple[Splits, AbstractRecommender]:
    """The data, and the model with its initial parameters."""
    refuse_unfit_stage(config)
    init_seed(config["seed"], config["reproducibility"])
    splits = load_splits(config)
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    with user_errors():
        model = get_model(config["model"])(config, splits.train._dataset).to(config["device"])
    return splits, model


def _made(trainer, config, model):
    """Create the trainer, which starts wandb if requested."""
    try:
        return trainer(config, model)
    except Exception as error:
        if not config["log_wandb"] or not type(error).__module__.startswith("wandb"):
            raise
        raise UserError(
            f"log_wandb: True: wandb cannot start ({error}). Run `wandb login`, or set "
            f"WANDB_MODE=offline in the environment"
        ) from error


def _floats(metrics: dict | None) -> dict[str, float] | None:
    return None if metrics is None else {name: float(value) for name, value in metrics.items()}


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)
