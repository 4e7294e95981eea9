"""Bundles on a disk that is full."""

import pytest
import torch

from recbole_mm.tools.torch_files import CannotSave
from recbole_mm.transfer.bundle import MANIFEST, Bundle, BundleError, read_bundle, write_bundle


def test_a_bundle_that_does_not_fit_on_the_disk_is_reported_and_not_a_bundle(
    tmp_path, almost_full_disk
):
    described = {"model": "MMM4Rec", "config": {}}
    bundle = Bundle(described, {"weight": torch.ones(10_000)}, {}, {"item": []})

    error = "model.safetensors|too large"
    with almost_full_disk(), pytest.raises((CannotSave, OSError), match=error):
        write_bundle(tmp_path / "bundle", bundle, "card")

    assert not (tmp_path / "bundle" / MANIFEST).exists()
    with pytest.raises(BundleError, match=f"{MANIFEST} is missing"):
        read_bundle(tmp_path / "bundle")
