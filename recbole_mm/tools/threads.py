"""Many small torch computations in parallel."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(function: Callable, tasks: Iterable) -> Iterator:
    """Apply ``function`` to every task and yield the results in order.

    Instead of several threads sharing each torch operation, each thread computes its own tasks, so
    that operations too small to be shared benefit as well.

    Args:
        function: function that calls torch operations on the CPU and is thread-safe.
        tasks: its arguments.
    """
    n_threads, tasks = torch.get_num_threads(), list(tasks)
    if n_threads == 1 or len(tasks) < 2:
        yield from map(function, tasks)
        return
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, tasks)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)
