"""The trainer of models that need no training."""

import torch
from recbole.trainer import Trainer

from recbole_mm.training.recorded import RecordedTraining


class TrainingFreeTrainer(RecordedTraining, Trainer):
    """RecBole's :class:`~recbole.trainer.Trainer` for a model without parameters: ``fit`` saves it,
    regardless of ``epochs``."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.epochs = 0

    def _build_optimizer(self, **_):
        return torch.optim.SGD([torch.zeros(1)], lr=1.0)  # RecBole's checkpoints contain its state
