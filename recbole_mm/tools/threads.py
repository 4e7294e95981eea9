"""Many small computations of torch side by side."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(function: Callable, tasks: Iterable) -> Iterator:
    """``function`` of every task, in their order.

    Where an operation of torch would be shared by several threads, each of these computes tasks of
    its own instead: operations too small to be shared gain as well.

    Args:
        function: calls operations of torch on the CPU, and may be called by several threads.
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
