"""Stages: runs that start from one another, and the files that are kept for each.

A yaml file lists them; each is an overlay on the other keys of the file::

    model: MMM4Rec
    stages:
      - {train_stage: pretrain, dataset: ToysSource, softmax: in_batch, use_item_id: False}
      - {train_stage: finetune, dataset: ToysGames}

A finetune stage starts from the nearest pretrain stage of its model above it, unless its
configuration sets ``pre_model_path``: to a checkpoint, or to ``~`` to start from scratch. A list of
domains may stand for the data sets, see :mod:`recbole_mm.config.stages`.
"""

import glob
from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from logging import getLogger
from pathlib import Path

from recbole_mm.config.errors import ConfigError, files_named
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.plain import config_to_plain
from recbole_mm.config.property_files import read_layers
from recbole_mm.config.stages import stage_overlays
from recbole_mm.data.kept_tables import tables_in_memory
from recbole_mm.data.shared_users import shared_users
from recbole_mm.integration.lookup import is_multi_modal
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.run.logs import start_logging
from recbole_mm.run.result import Result
from recbole_mm.run.run import Run, warn_of_unread_keys
from recbole_mm.run.splits import find_or_make
from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError, user_errors
from recbole_mm.tools.files import remove_abandoned, require_writable, set_aside
from recbole_mm.tools.interrupts import leaving
from recbole_mm.tools.locks import Locked, locked
from recbole_mm.tools.records import read_record, write_record
from recbole_mm.tools.torch_files import TorchFileError, check_archive
from recbole_mm.transfer.checkpoints import CheckpointError, read_checkpoint
from recbole_mm.transfer.pretrained import Pretrained


class Stage:
    """One stage: its configuration, the stage that it starts from, and its files.

    The files are in ``checkpoint_dir``, named by model, data set, stage and a hash of everything
    that the stage depends on: the configuration, the number of processes, the content of the data
    set and of the checkpoint that it starts from.

    Attributes:
        config: configuration of this stage.
        source: index of the stage whose best epoch it starts from, or ``None``.
        given: keys that a user gives for this stage, or on the command line.
    """

    def __init__(self, config, source: int | None = None, given: Iterable[str] = ()):
        self.config, self.source, self.given = config, source, tuple(given)

    def __str__(self) -> str:
        parts = (self.config["model"], self.config["dataset"], self.config["train_stage"])
        return "-".join(str(part) for part in parts if part)

    @cached_property
    def name(self) -> str:
        """Base name of its files; ``pre_model_path`` must be known."""
        data = data_hashes(self.config)
        hashed = digest(self.config, PLACES, n_processes=processes.size(), data=data)
        return f"{self}-{hashed[:12]}"

    def path(self, suffix: str) -> Path:
        """Path of a file: ``.pth`` best epoch, ``.progress.pth`` latest epoch, ``.json`` result of
        a finished stage."""
        return Path(self.config["checkpoint_dir"]) / f"{self.name}{suffix}"

    def result(self) -> Result | None:
        """The result of the stage if it is finished and its checkpoint exists.

        A damaged record or checkpoint is set aside.
        """
        path = self.path(".json")
        try:
            record = read_record(path)
            if record is None:
                return None
            result = Result.from_dict(record.get("result"), str(path))
        except UserError as error:
            set_aside(path, error)
            return None
        checkpoint = self.path(".pth")
        if not checkpoint.is_file():
            return None
        try:
            if is_multi_modal(self.config["model"]):
                read_checkpoint(checkpoint)
            else:  # a pickle of RecBole's trainers
                check_archive(checkpoint)
        except (CheckpointError, TorchFileError) as error:
            set_aside(checkpoint, error)
            return None
        return replace(result, checkpoint=str(checkpoint))

    def check(self, called: str, source: "Stage | None" = None) -> None:
        """Load its data and create its model, to find errors now that would end it later.

        Args:
            called: its name in messages.
            source: stage that it starts from, if that is not finished.

        Raises:
            UserError: the stage would fail; the message names it.
        """
        with user_errors(f"{called}: "):
            Run.check(self.config, None if source is None else source.untrained)

    @cached_property
    def untrained(self) -> Pretrained:
        """The untrained version of what it provides for a stage that starts from it."""
        return Run.untrained(self.config)

    def run(
        self,
        called: str = "stage",
        note: str = "",
        on_validation: Callable[[int, float], None] | None = None,
    ) -> Result:
        """Run the stage, or the rest of it, unless it is finished.

        Args:
            called: its name in the log.
            note: further text for the log.
            on_validation: callback that gets the epoch, from 0, and its score.

        Raises:
            Locked: another run is working on it.
        """
        start_logging(self.config)
        with self._alone(called):
            result = self.result()
            if result is None:
                warn_of_unread_keys(self.config["model"], self.given)
                getLogger().info(f"{called}: {self}{note and f'; {note}'}")
                result = self._train_and_test(on_validation)
            else:
                getLogger().info(f"{called} ({self}) is finished: {self.path('.json')}")
            if processes.is_first():
                self._remove_what_is_left()
            processes.barrier()
            return result

    def _remove_what_is_left(self) -> None:
        """Remove files that a finished stage does not need, including those of interrupted
        attempts."""
        self.path(".progress.pth").unlink(missing_ok=True)
        remove_abandoned(self.config["checkpoint_dir"], f"{glob.escape(self.name)}.*")

    @contextmanager
    def _alone(self, called: str):
        """Exclude other runs from this stage within the block."""
        refusal = (
            f"{called} ({self}): another run is working on it, with the same files in "
            f"{self.config['checkpoint_dir']}: wait for it, stop it, or give another checkpoint_dir"
        )
        with ExitStack() as stack:
            is_free = True
            if processes.is_first():
                require_writable(self.config["checkpoint_dir"], "Give another checkpoint_dir")
                try:
                    stack.enter_context(locked(self.path(".lock"), refusal))
                except Locked:
                    is_free = False
            if not processes.of_first(is_free):
                raise Locked(refusal)
            yield

    def _train_and_test(self, on_validation: Callable[[int, float], None] | None) -> Result:
        opened = Run(self.config)
        opened.keep_progress(self.path(".pth"), self.path(".progress.pth"))
        opened.train(on_validation=on_validation)
        result = opened.test()
        if processes.is_first():
            record = {"result": result.to_dict(), "config": config_to_plain(self.config)}
            write_record(self.path(".json"), record)
        return result


def run_stages(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    overrides: dict | None = None,
) -> list[Result]:
    """Run the stages that the configuration lists.

    A finished stage is not run again, and an interrupted one resumes.

    Raises:
        UserError: see :func:`recbole_mm.run.run.run`; the data are loaded and the models created
            for all stages before the first is trained.
    """
    processes.start()
    stages = plan_stages(model, dataset, config_files, config_dict, overrides)
    for stage in stages:
        find_or_make(stage.config)
    kept = "finished stages are kept; the same command resumes"
    with tables_in_memory(), leaving(lambda: kept):
        return _run_in_order(stages)


def _run_in_order(stages: list[Stage]) -> list[Result]:
    results: list[Result] = []
    checked = False
    for number, stage in enumerate(stages, 1):
        if stage.source is not None:
            stage.config["pre_model_path"] = results[stage.source].checkpoint
        if not checked and stage.result() is None:
            for later, coming in enumerate(stages[number:], number + 1):
                source = None if coming.source is None else stages[coming.source]
                coming.check(f"stage {later} ({coming})", source)
            checked = True
        results.append(stage.run(f"stage {number} of {len(stages)}", _note(stage, stages)))
    return results


def _note(stage: Stage, stages: list[Stage]) -> str:
    """What a finetune stage shares with its source."""
    if stage.source is None:
        return ""
    return str(shared_users(stages[stage.source].config, stage.config) or "")


def plan_stages(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    overrides: dict | None = None,
) -> list[Stage]:
    """The stages of a run; the arguments are those of :func:`~recbole_mm.config.load.load_config`.

    Raises:
        ConfigError: ``stages`` is not a list of mappings, ``load_config`` refuses a configuration,
            or the stages cannot be run in this order.
    """
    layers = (model, dataset, config_files, config_dict)
    with files_named({str(path): {} for path in config_files}):
        return _plan(layers, overrides)


def _plan(
    layers: tuple[str | None, str | None, tuple, dict | None], overrides: dict | None
) -> list[Stage]:
    common = read_layers(*layers[2:])
    overlays = stage_overlays({**common, **(overrides or {})})
    stages: list[Stage] = []
    looking: list[int] = []
    for number, overlay in enumerate(overlays, 1):
        config = load_config(
            *layers, stage=overlay, overrides=overrides, stage_name=f"stage {number}"
        )
        stage = Stage(config, given={**overlay, **(overrides or {})})
        if "pre_model_path" not in {**common, **overlay, **(overrides or {})}:
            stage.source = _nearest_pretraining(stages, config)
            if config["train_stage"] == "finetune" and stage.source is None:
                looking.append(len(stages))
        stages.append(stage)
    _refuse_impossible_order(stages, looking)
    return stages


def _nearest_pretraining(above: list[Stage], config) -> int | None:
    if config["train_stage"] != "finetune":
        return None
    same_model = [
        number
        for number, stage in enumerate(above)
        if stage.config["train_stage"] == "pretrain" and stage.config["model"] == config["model"]
    ]
    return same_model[-1] if same_model else None


def _refuse_impossible_order(stages: list[Stage], looking: list[int]):
    """Refuse stages that cannot be run in this order.

    Args:
        stages: all stages.
        looking: indices of the finetune stages without a pretrain stage above them to start from.
    """
    for number, stage in enumerate(stages):
        config = stage.config
        called = f"stage {number + 1} ({stage})"
        if config["model"] == "S3Rec":
            raise ConfigError(
                f"{called}: run the stages of S3Rec one by one: --train_stage=pretrain, then "
                f"--train_stage=finetune --pre_model_path=FILE"
            )
        if config["train_stage"] and not is_multi_modal(config["model"]):
            raise ConfigError(
                f"{called}: only {', '.join(MODELS)} and your own multi-modal models "
                f"transfer, not {config['model']}: remove train_stage to train {config['model']} alone"
            )
        below = [
            other
            for other in range(number + 1, len(stages))
            if stages[other].config["train_stage"] == "pretrain"
            and stages[other].config["model"] == config["model"]
        ]
        if number in looking and below:
            raise ConfigError(
                f"{called} comes before its pretrain stage {below[0] + 1}: move it below, or add "
                "`pre_model_path: ~` to it to start from scratch"
            )
        keys = [key for key in ("freeze", "reset") if config[key]]
        starts = stage.source is not None or config["pre_model_path"]
        if config["train_stage"] == "finetune" and keys and not starts:
            raise ConfigError(
                f"{called} has {' and '.join(keys)} but nothing to start from: there is no pretrain "
                f"stage of {config['model']} above it, and pre_model_path is empty"
            )
