"""Bundles on a disk that is full."""

import pytest
import torch

from recbole_mm.tools.torch_files import CannotSave
from recbole_mm.transfer.bundle import MANIFEST, Bundle, BundleError, read_bundle, write_bundle


@pytest.mark.usefixtures("almost_full_disk")
def test_a_bundle_that_does_not_fit_on_the_disk_is_reported_and_not_a_bundle(tmp_path):
    described = {"model": "MMM4Rec", "config": {}}
    bundle = Bundle(described, {"weight": torch.ones(10_000)}, {}, {"item": []})

    with pytest.raises((CannotSave, OSError), match="model.safetensors|too large"):
        write_bundle(tmp_path / "bundle", bundle, "card")

    assert not (tmp_path / "bundle" / MANIFEST).exists()
    with pytest.raises(BundleError, match=f"{MANIFEST} is missing"):
        read_bundle(tmp_path / "bundle")
