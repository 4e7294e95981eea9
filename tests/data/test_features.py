import io
import json
import random
import zipfile

import numpy as np
import pytest
import torch

from recbole_mm.data.feature_files import (
    FeatureFileError,
    feature_path,
    find_modalities,
    read_feature_info,
    read_feature_space,
    read_feature_tokens,
    write_item_features,
)
from recbole_mm.data.features import read_item_features


def test_features_follow_their_item_whatever_the_order_on_disk(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez(path, item_id=["b", "a", "unused"], feature=[[2.0], [1.0], [9.0]])

    features = read_item_features(path, item_tokens=["[PAD]", "a", "c", "b"])

    assert features.values.flatten().tolist() == [0, 1, 0, 2]
    assert features.present.tolist() == [False, True, False, True]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_written_features_are_read_back_in_their_dtype(tmp_path, dtype):
    path = tmp_path / "toy.text.npz"
    feature = np.arange(6, dtype=dtype).reshape(3, 2)
    write_item_features(path, ["a", "b", "c"], feature, {"encoder": "x"})

    features = read_item_features(path, ["[PAD]", "c", "b", "a"])

    assert features.values.numpy().dtype == dtype
    assert features.values[1:].tolist() == feature[::-1].tolist()
    assert read_feature_info(path) == {"encoder": "x"}


def test_compressed_and_double_files_are_read_too(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez_compressed(path, item_id=["a"], feature=np.array([[1.5, 2.5]]))
    features = read_item_features(path, ["[PAD]", "a"])
    assert features.values.dtype == torch.float32
    assert features.values[1].tolist() == [1.5, 2.5]
    assert read_feature_info(path) == {}


def test_the_padding_token_never_has_features(tmp_path):
    path = tmp_path / "toy.text.npz"
    write_item_features(path, ["[PAD]", "a"], np.ones((2, 1)))
    assert read_item_features(path, ["[PAD]", "a"]).present.tolist() == [False, True]


def test_a_file_that_fails_to_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "toy.text.npz"
    write_item_features(path, ["a"], np.ones((1, 2)))
    before = path.read_bytes()
    with pytest.raises(FeatureFileError, match="NaN.*1 item,.*'b'"):
        write_item_features(path, ["a", "b"], [[1.0], [float("nan")]])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_missing_file_names_the_way_out(tmp_path):
    with pytest.raises(
        FeatureFileError, match=r"toy.text.npz: no such.*has none; `recbole-mm extract toy`"
    ):
        read_item_features(tmp_path / "toy.text.npz", ["[PAD]", "a"])


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.99])
def test_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "toy.text.npz"
    write_item_features(path, [f"i{n}" for n in range(50)], np.ones((50, 8)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(FeatureFileError, match="toy.text.npz"):
        read_item_features(path, ["[PAD]", "i1"])


def test_features_of_another_data_set_name_the_share(tmp_path):
    path = tmp_path / "toy.text.npz"
    write_item_features(path, ["x1", "x2", "a"], np.ones((3, 1)))
    with pytest.raises(
        FeatureFileError, match=r"1 of the data set's 4 items \(25.0%\).*50.0%.*'x1'"
    ):
        read_item_features(path, ["[PAD]", "a", "b", "c", "d"], min_coverage=0.5)
    with pytest.raises(FeatureFileError, match=r"0 of the data set's 1 items"):
        read_item_features(path, ["[PAD]", "b"])


def test_repeated_tokens_and_bad_values_are_refused(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez(path, item_id=["a", "a", "b"], feature=np.ones((3, 1), np.float32))
    with pytest.raises(FeatureFileError, match=r"1 duplicate item tokens.*'a'"):
        read_item_features(path, ["[PAD]", "a"])
    for value in (np.inf, np.nan, -1e30):
        np.savez(path, item_id=["a", "b"], feature=np.array([[1.0], [value]], np.float32))
        with pytest.raises(FeatureFileError, match=r"too large values .* in 1 item, .*'b'"):
            read_item_features(path, ["[PAD]", "a", "b"])


@pytest.mark.parametrize(
    "arrays, words",
    [
        ({"feature": np.ones((2, 2))}, "no array 'item_id', it has ..feature"),
        ({"item_id": ["a"]}, "no array 'feature', it has ..item_id"),
        ({"item_id": [["a"]], "feature": np.ones((1, 2))}, "does not match"),
        ({"item_id": [b"\xff"], "feature": np.ones((1, 2))}, "'item_id' is not text"),
        ({"item_id": ["a"], "feature": np.ones((1, 2), complex)}, "expected float16 or float32"),
        ({"item_id": ["a"], "feature": np.ones((2, 2))}, "do not match"),
        ({"item_id": ["a"], "feature": np.ones(1)}, "do not match"),
        ({"item_id": ["a"], "feature": np.ones((1, 0))}, "empty features"),
        ({"item_id": ["a"], "feature": np.array([["x"]])}, "expected float16 or float32"),
    ],
)
def test_files_of_another_shape_are_refused(tmp_path, arrays, words):
    path = tmp_path / "toy.text.npz"
    np.savez(path, **arrays)
    with pytest.raises(FeatureFileError, match=words):
        read_item_features(path, ["[PAD]", "a"])


def test_a_pickle_in_a_feature_file_is_never_loaded(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez(path, item_id=["a"], feature=np.array([[{}]], dtype=object))
    with pytest.raises(FeatureFileError):
        read_item_features(path, ["[PAD]", "a"])


def test_tokens_that_are_python_objects_are_told_from_damage(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez(path, item_id=np.array(["a"], dtype=object), feature=np.ones((1, 3), np.float32))
    with pytest.raises(FeatureFileError, match=r"'item_id' contains Python objects.*astype\(str\)"):
        read_item_features(path, ["[PAD]", "a"])


def test_a_damaged_header_is_a_clear_error(tmp_path):
    path = write_item_features(tmp_path / "toy.text.npz", ["a"], np.ones((1, 3)))
    content = bytearray(path.read_bytes())
    start = content.index(b"\x93NUMPY", content.index(b"feature.npy")) + 12
    content[start : start + 30] = b"\0" * 30
    path.write_bytes(content)

    with pytest.raises(FeatureFileError, match="toy.text.npz: array 'feature' is damaged"):
        read_item_features(path, ["[PAD]", "a"])


def test_a_member_that_is_not_an_array_is_not_looked_for(tmp_path):
    path = tmp_path / "toy.text.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("item_id", "a")
        archive.writestr("feature", "b")
    with pytest.raises(FeatureFileError, match=r"toy.text.npz: no array 'item_id', it has \[\]"):
        read_item_features(path, ["[PAD]", "a"])


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_a_damaged_file_gives_its_features_or_an_error_that_names_it(tmp_path, write):
    path = tmp_path / "toy.text.npz"
    tokens, feature = [f"i{n}" for n in range(9)], np.arange(18, dtype=np.float32).reshape(9, 2)
    write(path, item_id=tokens, feature=feature, info='{"n": 1}', space_axes=feature)
    whole, rng, refused = path.read_bytes(), random.Random(4), 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            features = read_item_features(path, ["[PAD]", *tokens])
            assert read_feature_tokens(path) == tokens
            assert features.values[1:].tolist() == feature.tolist()
            read_feature_info(path)
            read_feature_space(path)
        except FeatureFileError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 200


def header(shape, descr="<f4") -> bytes:
    """Of an array that declares a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": descr}
    )
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**12, 1), (2**62, 4), (-1, 2), (1,) * 30, (3, 2**70)])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_shape_that_the_file_does_not_have_takes_no_memory(tmp_path, shape, compression):
    path = tmp_path / "toy.text.npz"
    np.savez(path, item_id=["a"])
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("feature.npy", header(shape) + b"\0" * 8)
    with pytest.raises(FeatureFileError, match="array 'feature' is damaged"):
        read_item_features(path, ["[PAD]", "a"])


def test_an_array_that_expands_without_bound_is_refused(tmp_path):
    path = tmp_path / "toy.text.npz"
    np.savez_compressed(path, item_id=["a"], feature=np.zeros((1, 10**7), np.float32))
    assert path.stat().st_size < 100_000
    with pytest.raises(FeatureFileError, match="it expands over 200 times; use numpy.savez"):
        read_item_features(path, ["[PAD]", "a"])


def test_modalities_are_found_with_text_and_image_first(tmp_path):
    for name in ("audio", "image", "text"):
        write_item_features(feature_path(tmp_path, "toy", name), ["a"], np.ones((1, 1)))
    (tmp_path / "other.text.npz").touch()
    assert find_modalities(tmp_path, "toy") == ["text", "image", "audio"]


def test_info_is_json(tmp_path):
    path = write_item_features(tmp_path / "toy.text.npz", ["a"], np.ones((1, 1)), {"n": 1})
    assert json.loads(str(np.load(path)["info"])) == {"n": 1}
