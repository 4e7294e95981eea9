r"""Several processes that form one run, started by torchrun; without it there is one.

    torchrun --nproc_per_node=2 -m recbole_mm --model=MMM4Rec --dataset=demo

Every process has the whole data set and its share of every batch: ``train_batch_size`` counts the
examples of one process. gloo connects CPUs, nccl GPUs, one GPU for each process.

Losses that are means over rows, including the in-batch softmax, are those of the joint batch.
Losses that compare or sum rows in another way (MISSRec's regularizer, contrasts of sequences with
their augmented views, sampled softmax and gBCE with their drawn negatives) only see the rows of
their own process.
"""

import os
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_mm.tools.errors import user_errors
from recbole_mm.tools.variables import GPU_VARIABLE, is_one_of_several

CANNOT_JOIN = "cannot join the other processes; start all by torchrun, or unset LOCAL_RANK: "


def start() -> None:
    """Join the processes that torchrun started; does nothing without torchrun, or if already
    joined.

    Raises:
        UserError: a variable that torchrun sets is missing or not a number.
    """
    if not is_one_of_several() or dist.is_initialized():
        return
    with user_errors(CANNOT_JOIN):
        _join()


def _join() -> None:
    local = int(os.environ["LOCAL_RANK"])
    visible = os.environ.get(GPU_VARIABLE)
    devices = [str(local)] * (local + 1) if visible is None else visible.split(",")
    os.environ[GPU_VARIABLE] = devices[local] if local < len(devices) else ""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend)


def stop() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def size() -> int:
    """Number of processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files and logs."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process gets here."""
    if size() > 1:
        dist.barrier()


def of_first(value):
    """The value of the first process."""
    values = [value]
    if size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


def of_all(value) -> list:
    """The values of all processes, in their order."""
    values = [value]
    if size() > 1:
        values = [None] * size()
        dist.all_gather_object(values, value)
    return values


def gather_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Gather the rows of all processes, whose numbers may differ; without gradient.

    Args:
        rows: ``(b, ...)``.

    Returns:
        all rows, in the order of the processes; indices of this process's own rows, ``(b,)``.
    """
    own = torch.arange(len(rows), device=rows.device)
    if size() == 1:
        return rows, own
    count = torch.tensor([len(rows)], device=rows.device)
    every_count = [torch.zeros_like(count) for _ in range(size())]
    dist.all_gather(every_count, count)
    counts = torch.cat(every_count).tolist()
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    gathered = torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
    return gathered, own + sum(counts[: rank()])


def mean_share(n_rows: int, device) -> float:
    """The factor of this process's mean over ``n_rows`` rows that makes the mean of these means
    over all processes the mean over all rows: near 1, and 1 if all processes have the same number
    of rows."""
    total = torch.tensor(float(n_rows), device=device)
    dist.all_reduce(total)
    return n_rows * size() / total.item()


def mean(value: float, device) -> float:
    """Mean of a number over the processes."""
    if size() == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.item() / size()


def split_batches(loader) -> None:
    """Let a training loader give this process its share of each batch from now on.

    A batch with fewer examples than processes is repeated, so that all processes have the same
    number and the mean over them is that of the batch.
    """
    if size() > 1:
        loader.collate_fn = partial(_collate_share, loader.collate_fn, rank(), size())


def _collate_share(collate, rank: int, size: int, index: list):
    if len(index) < size:
        index = index * size
    return collate(index[rank::size])
