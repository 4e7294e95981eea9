import pickle
import random

import pytest
import torch

from recbole_mm.transfer.authors import (
    AuthorsCheckpointError,
    import_authors_checkpoint,
    rename_mmm4rec,
)
from recbole_mm.transfer.pretrained import read_pretrained

STATE = {
    "text_embedding": torch.zeros(3, 2),
    "fusion_factor": torch.tensor(0.0),
    "text_adapter.0.weight": torch.ones(2, 2),
    "encoder_ssd_layers.0.ssd.conv1d_1.weight": torch.ones(4, 1, 4),
    "encoder_ssd_layers.0.ssd.A_log": torch.ones(2),
    "decoder_ssd_layers.0.ssd.A_log": torch.ones(2),
    "decoder_ssd_layers.0.co_ssd.A_log": torch.ones(2),
    "decoder_ssd_layers.0.text_complex_weight.0.real.weight": torch.ones(2, 2),
}


def test_a_released_checkpoint_gets_our_names(tmp_path):
    torch.save({"model": STATE, "epoch": 3}, tmp_path / "released.ckpt")
    state = import_authors_checkpoint(tmp_path / "released.ckpt", "MMM4Rec")
    assert set(state) == {
        "adapters.text.weight",
        "encoder_layers.0.ssd.conv.weight",
        "encoder_layers.0.ssd.state_space.A_log",
        "cross_layers.image.0.cross_ssd.state_space.A_log",
        "cross_layers.image.0.time_fusion.first_filter.real.weight",
    }
    assert state["encoder_layers.0.ssd.conv.weight"].shape == (4, 4)


def test_a_learned_fusion_factor_is_kept():
    assert rename_mmm4rec({"fusion_factor": torch.ones(2)}).keys() == {"fusion.weight"}


class Bomb:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('exploded').touch()",)


def test_a_checkpoint_with_code_is_not_executed(tmp_path):
    path = tmp_path / "bomb.ckpt"
    for write in (
        lambda: torch.save({"model": Bomb()}, path),
        lambda: pickle.dump(Bomb(), path.open("wb")),
    ):
        write()
        with pytest.raises(AuthorsCheckpointError, match="bomb.ckpt"):
            import_authors_checkpoint(path, "MMM4Rec")
    assert not (tmp_path / "exploded").exists()


class Scripted(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self):
        return torch.ones(1), self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.training = state[1]
        print("the code of the file ran")

    def forward(self, x):
        return x


def test_a_torchscript_archive_is_not_executed(tmp_path, capfd):
    path = tmp_path / "scripted.ckpt"
    torch.jit.script(Scripted()).save(path)

    with pytest.raises(AuthorsCheckpointError, match="TorchScript archive, which contains code"):
        read_pretrained(path, "MMM4Rec")

    assert "the code of the file ran" not in capfd.readouterr().out


def test_other_files_and_models_are_refused(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"model": {"a.weight": torch.ones(1)}}, path)
    with pytest.raises(
        AuthorsCheckpointError,
        match="other.ckpt: neither a checkpoint of this package",
    ):
        import_authors_checkpoint(path, "MMM4Rec")
    with pytest.raises(AuthorsCheckpointError, match="can be read for .*, not for SASRec"):
        import_authors_checkpoint(path, "SASRec")
    with pytest.raises(AuthorsCheckpointError, match="nothing.ckpt"):
        import_authors_checkpoint(tmp_path / "nothing.ckpt", "MMM4Rec")


@pytest.mark.parametrize("model", ["MMM4Rec", "MISSRec"])
@pytest.mark.parametrize(
    "content",
    [
        {"model": STATE | {3: torch.ones(1), "note": "text"}, "state_dict": [torch.ones(1)]},
        {"model": torch.ones(2), "state_dict": torch.ones(2)},
        [STATE],
        torch.ones(3),
        {"model": {"encoder_ssd_layers.0.ssd.conv1d_1.weight": torch.tensor(torch.nan)}},
        {
            "state_dict": {
                "trm_model.a": torch.ones(1),
                "plm_interest_lookup_table": torch.ones(1),
                "img_interest_lookup_table": torch.ones(2),
            }
        },
        {"model": {"encoder_ssd_layers.0.x": torch.ones(1).expand(10**12)}},
    ],
)
def test_a_file_of_any_content_is_imported_or_refused(tmp_path, model, content):
    path = tmp_path / "released.pth"
    torch.save(content, path)

    try:
        state = import_authors_checkpoint(path, model)
    except AuthorsCheckpointError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert "encoder_layers.0.ssd.conv.weight" in state


def test_a_damaged_file_is_imported_or_refused(tmp_path):
    path = tmp_path / "released.ckpt"
    torch.save({"model": STATE, "epoch": 3}, path)
    whole, rng, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            import_authors_checkpoint(path, "MMM4Rec")
        except AuthorsCheckpointError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
    assert refused > 100
