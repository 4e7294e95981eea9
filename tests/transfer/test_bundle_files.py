"""Bundles on a disk that is full."""

import pytest
import torch

from recbole_mm.tools.torch_files import CannotSave
from recbole_mm.transfer.bundle import (
    MANIFEST,
    Bundle,
    BundleError,
    read_bundle,
    what_is_missing,
    write_bundle,
)


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


def test_a_folder_that_is_no_bundle_is_told_from_a_path_that_does_not_exist(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    assert what_is_missing(tmp_path / "nowhere") == "does not exist"
    lacking = "manifest.json, model.safetensors, items.safetensors, items.json;"
    assert f"is a folder without the files of a bundle: it lacks {lacking}" in what_is_missing(
        folder
    )
    (folder / MANIFEST).write_text("{}")
    assert what_is_missing(folder) == what_is_missing(folder / MANIFEST) == ""
