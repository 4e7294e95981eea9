"""Training of multi-modal recommenders: RecBole's trainer with a few extended methods."""

import math
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from recbole.trainer import Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.training_data import training_data
from recbole_mm.tools import processes
from recbole_mm.tools.torch_files import (
    TorchFileError,
    read_torch,
    refuse_unusable,
    save_torch,
)
from recbole_mm.training.averaging import WeightAverage, averaging
from recbole_mm.training.cuda_graphs import GraphedLoss
from recbole_mm.training.optimizers import AccumulatedSteps, build_optimizer
from recbole_mm.training.recorded import RecordedTraining


class MultiModalTrainer(RecordedTraining, Trainer):
    """RecBole's :class:`~recbole.trainer.Trainer` with

    - everything in :class:`~recbole_mm.training.recorded.RecordedTraining`;
    - NAdam, and an error for an unknown learner;
    - parameters without weight decay (``no_weight_decay``, glob patterns), and parameters with
      their own learning rate (``group_learning_rates``);
    - gradient accumulation (``gradient_accumulation_steps``, ``accumulation_mean``);
    - weights averaged over the last steps (``ema_epochs``) in validation, test and checkpoints;
    - a hook of the model before each epoch (``on_epoch_start``);
    - the state before each epoch in a file, if one is named (``progress_file``), from which an
      interrupted run resumes with the same results as an uninterrupted one;
    - passes that are replayed as CUDA graphs (``cuda_graphs``);
    - several processes (:mod:`recbole_mm.tools.processes`): gradients are those of the joint batch,
      every process ranks its share of the users, and the first one writes;
    - checkpoints of plain data, written as a whole or not at all, with a record of the training and
      pre-training data (:mod:`recbole_mm.data.training_data`).
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.progress_file: Path | None = None
        self.trained_on = training_data(config)
        self.parallel_loss = None
        if processes.size() > 1:
            self.parallel_loss = _of_all_processes(LossModule(model))
        self.graphed_loss = None
        if config["cuda_graphs"] and self.device.type == "cuda":
            self.graphed_loss = GraphedLoss(model)
        elif config["cuda_graphs"]:
            self.logger.info("cuda_graphs: True needs a GPU and has no effect on the CPU")
        self.average: WeightAverage | None = None
        self.steps_per_epoch = 1
        if config["ema_epochs"]:
            self.average = averaging(self.optimizer, model.parameters(), self._window)

    def fit(self, *args, **kwargs):
        """See RecBole's; the model is left with its averaged weights."""
        results = super().fit(*args, **kwargs)
        if self.average:
            self.average.apply()
        return results

    def _window(self) -> float:
        """Number of steps that the average covers."""
        return max(1.0, self.config["ema_epochs"] * self.steps_per_epoch)

    def _averaged(self):
        return self.average.applied() if self.average else nullcontext()

    def _valid_epoch(self, valid_data, show_progress=False):
        with self._averaged():
            return super()._valid_epoch(valid_data, show_progress)

    def _build_optimizer(self, **kwargs):
        return build_optimizer(self.config, self.model, **kwargs)

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        if self.progress_file:
            self._save_progress(train_data, epoch_idx)
        self.steps_per_epoch = math.ceil(
            len(train_data) / (self.config["gradient_accumulation_steps"] or 1)
        )
        self.model.on_epoch_start(epoch_idx)
        loss_func = loss_func or self.parallel_loss or self.graphed_loss
        loss = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        return processes.mean(loss, self.device)

    def _after_last_step(self) -> None:
        if isinstance(self.optimizer, AccumulatedSteps):
            self.optimizer.flush()

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        if processes.is_first():
            with self._averaged():
                save_torch(self._with_modalities(self._state(epoch)), path)
        processes.barrier()
        if verbose:
            self.logger.info(f"Saving current: {path}")

    def _with_modalities(self, state: dict) -> dict:
        """A state whose configuration names the modalities, in case the data set changes later."""
        return {**state, "config": {**state["config"], "modalities": self.model.modalities}}

    def _state(self, epoch: int) -> dict:
        return {
            "config": config_to_plain(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "features": self.model.feature_info,
            "training_data": [*self.pretrained_on, self.trained_on],
            "optimizer": self.optimizer.state_dict(),
        }

    def _save_progress(self, train_data, epoch_idx: int) -> None:
        """Save everything that the epoch depends on."""
        best = self.best_valid_result
        cuda = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        state = self._state(epoch_idx - 1) | {
            "best_valid_result": best and {name: float(value) for name, value in best.items()},
            "average": self.average and self.average.state_dict(),
            "train_losses": self.train_loss_dict,
            "history": self.history,
            "shuffle": train_data.generator.get_state(),
            "random": processes.of_all((torch.get_rng_state(), cuda)),
        }
        if processes.is_first():
            save_torch(state, self.progress_file)

    def resume_progress(self, train_data) -> None:
        """Resume from ``progress_file``.

        Raises:
            TorchFileError: the file, or that of the best epoch so far, is damaged; do not use the
                trainer and its model afterwards.
        """
        assert self.progress_file is not None
        state = read_torch(self.progress_file)
        try:
            refuse_unusable(state["state_dict"], str(self.progress_file), TorchFileError)
            if state["history"]:
                read_torch(self.saved_model_file)
            self._resume(state, train_data)
        except TorchFileError:
            raise
        except Exception as error:  # the file is not what the trainer wrote
            raise TorchFileError(f"{type(error).__name__}: {error}") from error
        self.logger.info(f"resuming with epoch {self.start_epoch} from {self.progress_file}")

    def _resume(self, state: dict, train_data) -> None:
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self._started_from_config = True
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.train_loss_dict = state["train_losses"]
        self.history = state["history"]
        train_data.generator.set_state(state["shuffle"])
        cpu, cuda = state["random"][processes.rank()]
        torch.set_rng_state(cpu)
        if self.device.type == "cuda":
            torch.cuda.set_rng_state_all(cuda)


def _of_all_processes(module: nn.Module) -> DistributedDataParallel:
    """Wrap a module to average the processes' gradients. All processes have read the same buffers,
    so these are not sent: what replaces the setting in torch 2.13 sends them once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(module, broadcast_buffers=False, find_unused_parameters=True)


class LossModule(nn.Module):
    """The loss as a forward pass, weighted so that the mean of the processes' gradients is the
    gradient of the mean over all their targets."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, interaction) -> torch.Tensor:
        n_targets = self.model.n_targets(interaction)
        share = processes.mean_share(n_targets, interaction[self.model.ITEM_ID].device)
        return self.model.calculate_loss(interaction) * share
