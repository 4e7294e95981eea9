import threading

import pytest
import torch

from recbole_mm.tools.threads import in_threads


@pytest.fixture(params=[1, 3])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_tasks(n_threads):
    matrices = torch.randn(20, 30, 30)

    results = list(in_threads(lambda matrix: matrix @ matrix, matrices))

    torch.testing.assert_close(torch.stack(results), matrices @ matrices)
    assert torch.get_num_threads() == n_threads


def test_every_thread_has_tasks_and_operations_of_its_own(n_threads):
    together = threading.Barrier(n_threads)

    def meet(_):
        together.wait(timeout=60)
        return threading.get_ident(), torch.get_num_threads()

    found = list(in_threads(meet, range(2 * n_threads)))

    assert len({thread for thread, _ in found}) == n_threads
    assert {operations for _, operations in found} == {1}


def test_an_error_ends_all_tasks_and_leaves_the_number_of_threads(n_threads):
    done = []

    def fail_at_once(task):
        if task == 0:
            raise ValueError("the first")
        done.append(task)

    with pytest.raises(ValueError, match="the first"):
        list(in_threads(fail_at_once, range(100_000)))
    assert len(done) < 100_000
    assert torch.get_num_threads() == n_threads
