"""Tracking of a run in addition to its log: configuration, metrics of every epoch and test result.

``tracker`` names the tool; ``wandb_project`` names the project (for MLflow, the experiment).
Metrics are named ``train/loss``, ``valid/ndcg@10`` and ``test/ndcg@10``.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import NamedTuple

from torch.utils.tensorboard import SummaryWriter

from recbole_mm.tools.errors import UserError, first_line

LONGEST_VALUE = 500
"""Maximum number of characters of a configuration value, the limit of older MLflow servers."""
PARAMS_PER_CALL = 100
"""Maximum number of parameters per call, the limit of MLflow."""


class Tracked(NamedTuple):
    """A run that is tracked.

    Attributes:
        project: name under which runs are grouped.
        name: name of the run.
        config: configuration of the run, plain data.
    """

    project: str
    name: str
    config: Mapping


class Tracker:
    """A tracker that records nothing; base class of the others."""

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Record the metrics of an epoch, counted from 0."""

    def finish(self, metrics: dict[str, float]) -> None:
        """Record the test result and end the run."""

    def close(self) -> None:
        """End the run without a test result."""


class TensorBoardTracker(Tracker):
    """TensorBoard, in addition to what RecBole writes.

    Args:
        run: run to track.
        writer: RecBole's writer; it is closed at the end, together with its thread.
    """

    def __init__(self, run: Tracked, writer: SummaryWriter):
        self.tracked, self.writer = run, writer

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        for metric, value in metrics.items():
            self.writer.add_scalar(metric, value, epoch)

    def finish(self, metrics: dict[str, float]) -> None:
        if metrics:
            self.writer.add_hparams(_flat(self.tracked.config), metrics, run_name=".")
        self.close()

    def close(self) -> None:
        self.writer.close()


class WandbTracker(Tracker):
    """Weights & Biases; ``WANDB_MODE=offline`` keeps a run on this machine."""

    def __init__(self, run: Tracked):
        import wandb

        self.run = wandb.run or wandb.init(project=run.project, name=run.name)
        self.run.config.update(dict(run.config), allow_val_change=True)

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self.run.log({**metrics, "epoch": epoch})

    def finish(self, metrics: dict[str, float]) -> None:
        self.run.summary.update(metrics)
        self.close()

    def close(self) -> None:
        self.run.finish()


class MlflowTracker(Tracker):
    """MLflow; ``MLFLOW_TRACKING_URI`` names a server or a database, by default mlflow.db here."""

    def __init__(self, run: Tracked):
        from mlflow import MlflowClient
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        self.client = MlflowClient()
        experiment = self.client.get_experiment_by_name(run.project)
        if experiment is None:
            with contextlib.suppress(MlflowException):  # another process may be first
                self.client.create_experiment(run.project)
            experiment = self.client.get_experiment_by_name(run.project)
        assert experiment is not None
        self.run_id = self.client.create_run(
            experiment.experiment_id, run_name=run.name
        ).info.run_id
        params = [
            Param(key, str(value)[:LONGEST_VALUE]) for key, value in _flat(run.config).items()
        ]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(self.run_id, params=params[start : start + PARAMS_PER_CALL])

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        logged = [Metric(_without_at(name), value, now, epoch) for name, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=logged)

    def finish(self, metrics: dict[str, float]) -> None:
        self.log(metrics, 0)
        self.client.set_terminated(self.run_id)

    def close(self) -> None:
        self.client.set_terminated(self.run_id, "FAILED")


class TrackioTracker(Tracker):
    """trackio, a database on this machine (``TRACKIO_DIR``); ``trackio show`` opens it."""

    def __init__(self, run: Tracked):
        import trackio

        self.run = trackio.init(project=run.project, name=run.name, config=_flat(run.config))

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        self.run.log({**metrics, "epoch": epoch}, step=epoch)

    def finish(self, metrics: dict[str, float]) -> None:
        self.run.log(metrics)
        self.close()

    def close(self) -> None:
        self.run.finish()


def start_tracking(tool: str, run: Tracked, writer) -> Tracker:
    """Create the tracker of a run.

    Args:
        tool: ``none``, ``tensorboard``, ``wandb``, ``mlflow`` or ``trackio``.
        run: run to track.
        writer: RecBole's TensorBoard writer.

    Raises:
        UserError: the tool cannot start.
    """
    if tool == "tensorboard":
        return TensorBoardTracker(run, writer)
    trackers = {"wandb": WandbTracker, "mlflow": MlflowTracker, "trackio": TrackioTracker}
    try:
        return trackers[tool](run) if tool in trackers else Tracker()
    except Exception as error:  # a tool may raise anything when its server or database fails
        reason = first_line(error)
        raise UserError(
            f"tracker: {tool} cannot start a run: {reason}. Correct its settings, or set "
            f"tracker: tensorboard"
        ) from error


class NoWriter:
    """Replaces RecBole's writer if TensorBoard is not used."""

    def add_scalar(self, *_args, **_options) -> None:
        """Write nothing."""

    def add_hparams(self, *_args, **_options) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Do nothing."""


def finite(metrics: Mapping | None, head: str) -> dict[str, float]:
    """Metrics as floats, with names prefixed by ``head``; values that are not finite are
    omitted."""
    values = {f"{head}/{name}": float(value) for name, value in (metrics or {}).items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _flat(config: Mapping) -> dict[str, bool | int | float | str]:
    """Values for a table: plain values unchanged, others as text."""
    return {
        key: value if isinstance(value, (bool, int, float, str)) else str(value)
        for key, value in config.items()
        if value is not None
    }


def _without_at(metric: str) -> str:
    """The name of a metric for MLflow, which does not allow ``@``."""
    return metric.replace("@", "_at_")
