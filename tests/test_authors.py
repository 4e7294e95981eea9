"""The authors' checkpoints load without executing anything in them."""

import os

import pytest
import torch
from torch import nn

from recbole_mm.authors import AuthorsCheckpointError, import_authors_checkpoint


class Malicious:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Anything:
    """An object with state, like RecBole's Config in a released checkpoint."""

    def __init__(self):
        self.values = {"a": [1, 2]}


STATE = {
    "trm_model.encoder.norm.weight": nn.Parameter(torch.ones(3)),
    "text_adaptor.weight": torch.full((3, 4), 0.5),
    "plm_embedding.weight": torch.zeros(5, 4),
    "plm_embedding_empty_mask": torch.zeros(5, dtype=torch.bool),
    "plm_interest_lookup_table": torch.tensor([0, 1, 2, 1, 2]),
    "img_interest_lookup_table": torch.tensor([0, 2, 2, 1, 1]),
    "interest_embeddings": torch.zeros(3, 3),
}


@pytest.mark.parametrize("zip_file", [True, False])
def test_a_checkpoint_with_pickled_objects_gives_its_tensors_under_our_names(tmp_path, zip_file):
    path = tmp_path / "MISSRec.pth"
    torch.save(
        {"config": Anything(), "epoch": 3, "state_dict": STATE, "device": torch.device("cpu")},
        path,
        _use_new_zipfile_serialization=zip_file,
    )

    state = import_authors_checkpoint(path, "MISSRec")

    assert set(state) == {
        "transformer.encoder.norm.weight",
        "adapters.text.weight",
        "interests.embeddings",
        "interests.lookup",
    }
    assert state["adapters.text.weight"].equal(STATE["text_adaptor.weight"])
    assert state["interests.lookup"].tolist() == [[0, 1, 2, 1, 2], [0, 2, 2, 1, 1]]


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    path, mark = tmp_path / "bad.pth", tmp_path / "executed"
    torch.save({"config": Malicious(f"touch {mark}"), "state_dict": STATE}, path)

    import_authors_checkpoint(path, "MISSRec")

    assert not mark.exists()


def test_another_file_is_no_checkpoint(tmp_path):
    path = tmp_path / "text.pth"
    path.write_text("not a checkpoint")

    with pytest.raises(AuthorsCheckpointError, match="text.pth: not a checkpoint"):
        import_authors_checkpoint(path, "MISSRec")


def test_a_checkpoint_of_another_model_is_refused_by_its_names(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"gru.weight": torch.zeros(2)}}, path)

    with pytest.raises(AuthorsCheckpointError, match=r"no parameter of the authors' MISSRec.*gru"):
        import_authors_checkpoint(path, "MISSRec")


def test_a_model_without_importer_is_refused(tmp_path):
    with pytest.raises(AuthorsCheckpointError, match="no importer for model 'SASRec'.*MISSRec"):
        import_authors_checkpoint(tmp_path / "x", "SASRec")
