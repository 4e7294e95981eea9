"""What a run records about its training, with any of RecBole's trainers."""

import secrets
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from recbole.trainer import AbstractTrainer, PretrainTrainer
from recbole.utils import dict2str

from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.mixed_dataset import MixtureDataset
from recbole_mm.data.training_data import Record
from recbole_mm.tools import processes
from recbole_mm.tools.errors import RunFailed
from recbole_mm.tools.files import remove_abandoned
from recbole_mm.tools.precision import matmul_precision
from recbole_mm.tools.torch_files import saving
from recbole_mm.training.ranking import RankCollector, domains_of_items, pieces, remedy_of_nan
from recbole_mm.training.tracking import NoWriter, Tracked, Tracker, finite, start_tracking
from recbole_mm.transfer.pretrained import freeze_from_config, start_from_config

FIRST_WITH_BFLOAT16 = (8, 0)  # compute capability of a GPU: Ampere


class LossIsNaN(RunFailed):
    """The loss is not a number, or the parameters have become NaN or infinite."""


class RecordedTraining(AbstractTrainer):
    """A mixin for RecBole's trainers.

    - Each run has its own checkpoint file: the time in RecBole's file name has a resolution of one
      second, so runs that start together would share a file.
    - ``pre_model_path``, ``reset``, ``allow_fewer_layers`` and ``freeze`` work even if RecBole's
      own functions create the trainer.
    - The initial model is validated, and kept if no epoch is better (``validate_start``; by default
      if it is pre-trained).
    - A mixture draws the examples of each epoch (``domain_sampling``, ``domain_curriculum``).
    - Ranks are counted (:class:`~recbole_mm.training.ranking.RankCollector`), in memory that does
      not grow with ``eval_batch_size`` times the number of items.
    - A loss that is not a number, or parameters that are not finite, raise a separate type of error
      that names the epoch.
    - Checkpoints are written as a whole or not at all.
    - ``matmul_precision`` applies to training, and ``enable_amp`` on a GPU computes in bfloat16,
      whose range is that of float32. In validation and test, matrix products are in float32.
    - The run is tracked (``tracker``, :mod:`recbole_mm.training.tracking`) until its first test.

    Attributes:
        history: ``epoch``, ``valid_score`` and ``seconds`` since the start of training, including
            the time before an interruption, for each validated epoch; epoch -1 is the initial
            model.
        training_seconds: duration of each epoch trained by this process.
        validation_seconds: duration of each of its validations.
        pretrained_on: records of the data of ``pre_model_path``.
    """

    def __init__(self, config, model):
        freeze_from_config(model, config)
        super().__init__(config, model)
        self._warn_of_emulated_bfloat16()
        path = Path(self.saved_model_file)
        remove_abandoned(path.parent, f"{config['model']}-*{path.suffix}")
        path = path.with_stem(f"{path.stem}-{secrets.token_hex(3)}")
        self.saved_model_file: str = processes.of_first(str(path))
        self.eval_collector = RankCollector(config)
        self.history: list[dict] = []
        self.training_seconds: list[float] = []
        self.validation_seconds: list[float] = []
        self.pretrained_on: list[Record] = []
        self._epoch = 0
        self._begun = time.perf_counter()
        self._started_from_config = False
        self._name, self._validating = path.stem, False
        self._item_domain: torch.Tensor | None = None
        self._tool = (config["tracker"] or "tensorboard") if processes.is_first() else "none"
        if self._tool != "tensorboard":
            self.tensorboard = NoWriter()
        self.tracker = Tracker()

    def elapsed(self) -> float:
        """Seconds since training began, including those before an interruption."""
        return time.perf_counter() - self._begun

    def start_from_config(self) -> None:
        """Load ``pre_model_path`` into the model, once; :meth:`fit` does it if it was not done
        before.

        Raises:
            TransferError: see :func:`~recbole_mm.transfer.pretrained.start_from_config`.
        """
        if not self._started_from_config:
            report = start_from_config(self.model, self.config)
            if report is not None:
                self.logger.info(f"started from {self.config['pre_model_path']}: {report}")
                self.pretrained_on = list(report.training_data)
        self._started_from_config = True

    def fit(
        self,
        train_data,
        valid_data=None,
        verbose=True,
        saved=True,
        show_progress=False,
        callback_fn=None,
    ):
        """See RecBole's."""
        if self.start_epoch == 0:
            self.start_from_config()
        before = self.history[-1]["seconds"] if self.history else 0.0
        self._begun = time.perf_counter() - before

        def record(epoch, score):
            self._remember(epoch, score)
            if callback_fn:
                callback_fn(epoch, score)

        path = self.saved_model_file
        run = Tracked(self.config["wandb_project"], self._name, config_to_plain(self.config))
        self.tracker = start_tracking(self._tool, run, self.tensorboard)
        try:
            if saved and valid_data and self._validates_start():
                self.eval_collector.data_collect(train_data)
                self._validate_start(valid_data, verbose, show_progress)
            found = super().fit(train_data, valid_data, verbose, saved, show_progress, record)
        except BaseException:
            self.tracker.close()
            raise
        if saved and isinstance(self, PretrainTrainer) and self.model.train_stage == "pretrain":
            self.save_pretrained_model(self.pretrain_epochs - 1, path)  # RecBole: every save_step
        return found

    def _validates_start(self) -> bool:
        if self.start_epoch or self.history or not self.epochs or self.eval_step <= 0:
            return False
        if isinstance(self, PretrainTrainer) and self.model.train_stage == "pretrain":
            return False
        wanted = self.config["validate_start"]
        return bool(self.config["pre_model_path"]) if wanted is None else wanted

    def _remember(self, epoch: int, score: float) -> None:
        entry = {"epoch": epoch, "valid_score": float(score), "seconds": self.elapsed()}
        self.history.append(entry)

    def _validate_start(self, valid_data, verbose, show_progress) -> None:
        """Validate the initial model and record it as the best so far."""
        self._epoch = -1
        score, result = self._valid_epoch(valid_data, show_progress=show_progress)
        self.best_valid_score, self.best_valid_result = score, result
        if verbose:
            self.logger.info(f"before the first epoch [valid_score: {score:f}]")
            self.logger.info(f"valid result: \n{dict2str(result)}")
        self._save_checkpoint(self._epoch, verbose=verbose)
        self._remember(self._epoch, score)

    def evaluate(self, eval_data, *args, **kwargs):
        """See RecBole's; outside training, the first evaluation is the test, which ends the run."""
        if isinstance(self.eval_collector, RankCollector):
            self.eval_collector.collect_sizes(eval_data.dataset)
        if self.config["same_domain_candidates"]:
            self._item_domain = domains_of_items(eval_data.dataset).to(self.device)
        with matmul_precision("highest"):
            result = super().evaluate(eval_data, *args, **kwargs)
        if not self._validating:
            best = finite(getattr(self, "best_valid_result", None), "best_valid")
            self.tracker.finish({**best, **finite(result, "test")})
            self.tracker = Tracker()
        return result

    def _full_sort_batch_eval(self, batched_data):
        """See RecBole's; all but the last piece of a large batch are collected here."""
        *others, last = pieces(batched_data, self.tot_item_num)
        for piece in others:
            interaction, scores, *positive = self._scored(piece)
            self.eval_collector.eval_batch_collect(scores, interaction, *positive)
            del scores
        return self._scored(last)

    def _scored(self, batched_data):
        """Score a batch as RecBole does; with ``same_domain_candidates``, only items of the
        target's domain are candidates."""
        interaction, scores, row, target = super()._full_sort_batch_eval(batched_data)
        if self._item_domain is not None:
            domain = self._item_domain.new_zeros(len(scores))
            domain[row.to(domain.device)] = self._item_domain[target.to(domain.device)]
            scores = scores.masked_fill(self._item_domain != domain.unsqueeze(1), -torch.inf)
        return interaction, scores, row, target

    def _add_train_loss_to_tensorboard(self, epoch_idx, losses, **kwargs):
        super()._add_train_loss_to_tensorboard(epoch_idx, losses, **kwargs)
        loss = sum(losses) if isinstance(losses, tuple) else losses
        self.tracker.log(finite({"loss": loss}, "train"), epoch_idx)

    def _add_hparam_to_tensorboard(self, best_valid_result):
        """Do nothing: the tracker writes the hyperparameters, with the test result."""

    def _train_epoch(self, train_data, epoch_idx, *args, **kwargs):
        self._epoch = epoch_idx
        if isinstance(train_data._dataset, MixtureDataset):
            train_data._dataset.on_epoch_start(epoch_idx)
        begun = time.perf_counter()
        try:
            with self._training_precision():
                loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
            self._after_last_step()
        finally:
            self.training_seconds.append(time.perf_counter() - begun)
        self._refuse_parameters_that_are_not_finite()
        return loss

    def _after_last_step(self) -> None:
        """Called after the batches of an epoch, before its parameters are checked."""

    @contextmanager
    def _training_precision(self):
        """Apply ``matmul_precision`` within the block, and let ``enable_amp`` compute in bfloat16
        on a GPU, unless ``enable_scaler`` compensates for the range of float16, torch's own
        default."""
        before = torch.get_autocast_dtype("cuda")
        torch.set_autocast_dtype("cuda", torch.float16 if self.enable_scaler else torch.bfloat16)
        try:
            with matmul_precision(self.config["matmul_precision"]):
                yield
        finally:
            torch.set_autocast_dtype("cuda", before)

    def _warn_of_emulated_bfloat16(self) -> None:
        on_gpu = self.device.type == "cuda" and self.enable_amp and not self.enable_scaler
        if on_gpu and torch.cuda.get_device_capability(self.device) < FIRST_WITH_BFLOAT16:
            self.logger.warning(
                "enable_amp: this GPU computes bfloat16 more slowly than float32; enable_scaler: True "
                "uses float16 and scales the loss"
            )

    def _valid_epoch(self, *args, **kwargs):
        begun = time.perf_counter()
        self._validating = True
        try:
            score, result = super()._valid_epoch(*args, **kwargs)
        finally:
            self._validating = False
            self.validation_seconds.append(time.perf_counter() - begun)
        if self._epoch >= 0:
            self.tracker.log(finite(result, "valid"), self._epoch)
        return score, result

    def _check_nan(self, loss):
        if torch.isnan(loss):
            raise LossIsNaN(
                f"the loss of {self.config['model']} is not a number in epoch {self._epoch}: "
                f"{remedy_of_nan(self.config)}"
            )

    def _refuse_parameters_that_are_not_finite(self):
        """After the last step of an epoch, no loss would reveal it, and the epoch might be the
        best."""
        bad = [name for name, p in self.model.named_parameters() if not bool(p.isfinite().all())]
        if bad:
            raise LossIsNaN(
                f"{len(bad)} parameters of {self.config['model']} are NaN or infinite after epoch "
                f"{self._epoch}, e.g. {bad[0]}: {remedy_of_nan(self.config)}"
            )

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """See RecBole's; the file is written as a whole, or the previous one is kept."""
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        with saving(path) as temporary:
            super()._save_checkpoint(epoch, verbose=False, saved_model_file=temporary)
        if verbose:
            self.logger.info(f"Saving current: {path}")


@cache
def recorded(trainer: type[AbstractTrainer]) -> type[AbstractTrainer]:
    """The trainer class with :class:`RecordedTraining`."""
    if issubclass(trainer, RecordedTraining):
        return trainer
    return type(trainer.__name__, (RecordedTraining, trainer), {})
