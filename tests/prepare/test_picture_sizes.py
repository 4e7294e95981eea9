"""Pictures that an encoder would enlarge without bound: by its own settings, or for their shape."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

transformers = pytest.importorskip("transformers", reason="encoders need recbole_mm[features]")
pytest.importorskip("sentence_transformers", reason="encoders need recbole_mm[features]")

from small_encoders import save_picture_encoder

from recbole_mm.prepare.batches import encode_batch
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.open_encoder import open_encoder
from recbole_mm.prepare.picture_sizes import pixels_made

HUGE = 100_000


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_picture_encoder(tmp_path_factory.mktemp("encoders") / "clip")


@pytest.fixture
def with_settings(clip, tmp_path):
    def make(**settings):
        folder = tmp_path / "clip"
        shutil.copytree(clip, folder)
        path = folder / "preprocessor_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        return open_encoder(str(folder), device="cpu")

    return make


@pytest.mark.parametrize(
    "size",
    [
        {"shortest_edge": 16},
        {"height": 16, "width": 24},
        {"shortest_edge": 16, "longest_edge": 20},
    ],
)
@pytest.mark.parametrize("shape", [(30, 20), (8, 64), (16, 16)])
def test_the_pixels_that_a_processor_makes_are_known_before(size, shape):
    crop = {"height": 1, "width": 1}
    processor = transformers.CLIPImageProcessor(size=size, crop_size=crop, do_center_crop=False)
    made = processor(Image.new("RGB", shape), return_tensors="pt")["pixel_values"]

    height, width = made.shape[-2:]
    assert pixels_made(processor, *shape) >= height * width
    assert pixels_made(processor, *shape) <= height * width * 1.3  # sides are rounded


def test_a_processor_that_counts_pixels_enlarges_up_to_its_lower_bound():
    processor = transformers.Qwen2VLImageProcessor(
        size={"shortest_edge": 4096, "longest_edge": 10**7}
    )

    assert pixels_made(processor, 10, 10) == 4096


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({"size": {"height": HUGE, "width": HUGE}}, "10,000,000,000"),
        ({"size": {"shortest_edge": HUGE}}, "10,000,000,000"),
        ({"size": {"longest_edge": HUGE}}, "10,000,000,000"),
        ({"crop_size": {"height": HUGE, "width": 64}}, "6,400,000"),
        ({"do_pad": True, "pad_size": {"height": HUGE, "width": HUGE}}, "10,000,000,000"),
    ],
)
def test_settings_that_make_too_many_pixels_are_refused(with_settings, settings, made):
    encoder = with_settings(**settings)

    with pytest.raises(
        InputError, match=f"makes {made} pixels of every .*preprocessor_config.json"
    ):
        encoder.require("image")


@pytest.mark.parametrize(
    "settings",
    [
        {"size": "large"},
        {"size": {"height": -5, "width": 16}},
        {"size": {"side": 16}},
        {"size": {"height": 24, "width": 24}, "crop_size": {"height": 24, "width": 24}},
        {"image_mean": [0.5]},
        {"image_mean": "gray"},
        {"image_processor_type": "Unknown"},
        {"resample": 99},
    ],
)
def test_settings_that_no_picture_goes_through_are_refused(with_settings, settings):
    with pytest.raises(InputError, match="encoder '.*clip' cannot"):
        with_settings(**settings).require("image")


def test_a_picture_that_is_too_narrow_for_the_encoder_is_reported_and_ends_no_other(clip, tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    Image.new("1", (1, 40_000)).save(tmp_path / "narrow.png")
    encoder = open_encoder(str(clip), device="cpu")
    encoder.require("image")

    found = encode_batch(encoder, "image", [(0, tmp_path / "narrow.png"), (1, tmp_path / "a.png")])

    assert found.rows == [1] and np.isfinite(found.values).all()
    ((row, why),) = found.problems
    assert row == 0
    assert "narrow.png: 1 x 40000 pixels, of which the encoder would make 10,240,000" in why
