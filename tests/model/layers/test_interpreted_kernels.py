"""The Triton kernels of mamba_ssm on a CPU, by Triton's interpreter: slow, but the very code of a GPU.

`.ci/run` installs the packages that it needs, which need no CUDA for this, and runs it.
"""

import contextlib
import os
import sys
import types
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from kernels import outputs_and_gradients
from torch.testing import assert_close

from recbole_mm.model.layers.backend import mamba_ssm_scan
from recbole_mm.model.layers.ssd import ssd

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1",
    reason="set TRITON_INTERPRET=1, with mamba_ssm and triton",
)
NAMES = ("x", "dt", "A", "B", "C", "skip")
CHUNK = 64  # of mamba_ssm_scan
FLOAT32 = 1e-5  # its error over two chunks, as a share of the largest value


@pytest.fixture(scope="module", autouse=True)
def interpreter():
    """mamba_ssm without its CUDA extensions, on a device that only claims to be one of CUDA."""
    import triton

    package = types.ModuleType("mamba_ssm")  # its own imports the extensions
    package.__path__ = list(find_spec("mamba_ssm").submodule_search_locations)
    autotune = triton.autotune
    properties = types.SimpleNamespace(multi_processor_count=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mamba_ssm", package)
        patch.setattr(
            triton, "autotune", lambda configs, **rest: autotune(configs=configs[:1], **rest)
        )
        patch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
        patch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        yield


def random_inputs(l, h=4, g=2, b=2, p=16, n=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(l)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    x, B, C, skip = (draw(b, l, *rest).to(dtype) for rest in ((h, p), (g, n), (g, n), (h,)))
    return x, draw(b, l, h).sigmoid(), -draw(h).exp(), B, C, skip


def named(scan, inputs):
    """The output and the gradients by their names."""
    return dict(zip(("y", *NAMES), outputs_and_gradients(scan, inputs), strict=False))


def assert_equal_up_to(share, found, expected):
    """Differences below a share of the largest value."""
    for name, value in expected.items():
        bound = share * value.abs().max().item()
        assert_close(
            found[name].double(), value, atol=bound, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )


def exactly(inputs):
    return named(ssd, [value.double() for value in inputs])


@pytest.mark.parametrize("l", [1, 50, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_the_kernels_compute_ssd_and_its_gradients_at_any_length(l):
    inputs = random_inputs(l)

    assert_equal_up_to(FLOAT32, named(mamba_ssm_scan, inputs), exactly(inputs))


@pytest.mark.parametrize("g", [1, 4])
def test_all_heads_may_share_a_group_and_each_may_have_one_of_its_own(g):
    inputs = random_inputs(20, h=4, g=g)

    assert_equal_up_to(FLOAT32, named(mamba_ssm_scan, inputs), exactly(inputs))


def test_the_skip_may_be_left_out():
    inputs = random_inputs(20)[:-1]

    assert_equal_up_to(FLOAT32, named(mamba_ssm_scan, inputs), exactly(inputs))


def test_half_precision_loses_no_more_than_its_own_rounding():
    """Of float16: NumPy, in which the interpreter computes, has no bfloat16."""
    inputs = random_inputs(CHUNK + 6, dtype=torch.float16)
    found = named(mamba_ssm_scan, inputs)

    assert found["y"].dtype == torch.float16
    assert_equal_up_to(4e-3, found, exactly(inputs))


def test_padding_on_the_right_changes_nothing_before_it():
    inputs = random_inputs(30)
    short = [value if value.ndim == 1 else value[:, :20] for value in inputs]

    assert_close(mamba_ssm_scan(*inputs)[:, :20], mamba_ssm_scan(*short), atol=1e-5, rtol=1e-5)


def test_the_code_is_that_of_the_package():
    from mamba_ssm.ops.triton import ssd_combined

    path = Path(ssd_combined.__file__).parts
    assert path[-4:] == ("mamba_ssm", "ops", "triton", "ssd_combined.py")
