import pytest
from small_set import ROWS, config, write_set

from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import FeatureFileError
from recbole_mm.tools.errors import UserError


def test_a_declared_modality_that_is_not_there_is_an_error(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a", "b", "c", "d"])
    with pytest.raises(FeatureFileError, match=r"small.image.npz: no such feature file"):
        MultiModalDataset(config(path, modalities=["text", "image"]))
    with pytest.raises(UserError, match="'modalities' is .*list of different names"):
        MultiModalDataset(config(path, modalities=["text", "text"]))


def test_modalities_and_masks(tmp_path):
    path = write_set(tmp_path, ROWS, image=["d", "a"], text=["a", "b", "c"])
    dataset = MultiModalDataset(config(path))
    assert dataset.modalities == ["text", "image"]
    tokens = dataset.field2id_token["item_id"].tolist()
    present = dataset.features["image"].present
    assert {tokens[i] for i in present.nonzero().flatten()} == {"a", "d"}
    assert dataset.features["text"].values[tokens.index("b")].item() == 2
    assert not dataset.features["text"].present[tokens.index("d")]


def test_features_are_read_as_they_are_and_an_unknown_transform_is_refused(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a", "b", "c", "d"])
    values = MultiModalDataset(config(path, feature_transform="whiten")).features["text"].values
    assert values[1:].flatten().tolist() == [1, 2, 3, 4]
    with pytest.raises(
        UserError, match="'feature_transform' is 'ica'; it must be one of whiten, zca, pca"
    ):
        MultiModalDataset(config(path, feature_transform="ica"))


@pytest.mark.parametrize(
    "features, modality, words",
    [
        (
            {"text": ["a"], "image": ["a"]},
            "txt",
            "The modalities of data set 'small' are text, image: did you mean 'text'?",
        ),
        (
            {"text": ["a"]},
            "audio",
            "are text. Name others in 'modalities', or create the file with",
        ),
        ({}, "text", "Data set 'small' has none; `recbole-mm extract small` makes them"),
    ],
)
def test_a_modality_that_is_not_there_names_those_that_are(tmp_path, features, modality, words):
    path = write_set(tmp_path, ROWS, **features)

    with pytest.raises(FeatureFileError, match="no such feature file") as error:
        MultiModalDataset(config(path, modalities=[modality]))

    assert words in str(error.value)


def test_items_without_features_are_counted(tmp_path, caplog):
    caplog.set_level("INFO")
    path = write_set(tmp_path, ROWS, text=["a", "b", "c"])

    MultiModalDataset(config(path))

    assert "1 item has no modality" in caplog.text
