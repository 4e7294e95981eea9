r"""Models whose scores are added: late fusion of entries that were trained separately.

An ensemble is written ``A|B`` in ``--models``, where ``A`` and ``B`` are entries too, and has one
run per seed; ``A|seeds`` adds the scores of the runs of ``A`` with all seeds, as one run. See
:mod:`recbole_mm.reporting.added_scores`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recbole_mm.config.plain import config_from_plain
from recbole_mm.run.run import Run
from recbole_mm.tools.records import read_record

SEPARATOR = "|"

NO_LOGITS = ("HistoryKNN", "Popularity")
"""Models whose scores are not logits."""


OVER_SEEDS = "seeds"
"""The member name that stands for all seeds of the other members."""


class Ensemble(NamedTuple):
    """Entries whose scores are added.

    Attributes:
        label: name in tables.
        members: labels of the entries.
        over_seeds: whether their runs with all seeds are added, as one run.
    """

    label: str
    members: tuple[str, ...]
    over_seeds: bool = False


def open_members(folders: Sequence[Path], checkpoint: str, plan: str) -> list[Run]:
    """The finished runs of the members, with the parameters of their best epochs.

    Args:
        folders: folders of the runs.
        checkpoint: file name of the best epoch's checkpoint.
        plan: name of the file with the configuration.
    """
    runs: list[Run] = []
    for folder in folders:
        plain = (read_record(folder / plan) or {})["config"]
        if runs:  # all members score the same batches
            plain["eval_batch_size"] = runs[0].config["eval_batch_size"]
        run = Run(config_from_plain(plain))
        run.load(folder / checkpoint)
        runs.append(run)
    return runs
