import pickle
import random
import types
import zipfile

import pytest
import torch

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.torch_files import (
    CannotSave,
    NotPlainData,
    TorchFileError,
    check_archive,
    read_torch,
    refuse_unusable,
    save_torch,
)


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "a.pth"
    save_torch({"weight": torch.arange(3.0), "epoch": 2}, path)

    content = read_torch(path)

    assert content["weight"].tolist() == [0, 1, 2]
    assert content["epoch"] == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


class Bomb:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('exploded').touch()",)


@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))])
def test_nothing_in_a_file_is_executed(tmp_path, write):
    write({"a": Bomb()}, tmp_path / "a.pth")

    with pytest.raises(TorchFileError):
        read_torch(tmp_path / "a.pth")
    assert not (tmp_path / "exploded").exists()


def test_a_file_is_read_in_no_more_memory_than_it_has_bytes(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.pth", "w", 8) as small:
        for name in archive.namelist():
            small.writestr(name, archive.read(name))

    with pytest.raises(TorchFileError, match="it is compressed"):
        read_torch(tmp_path / "b.pth")

    old = tmp_path / "c.pth"  # the format before torch 1.6, in which sizes are only declared
    torch.save({"w": torch.zeros(1)}, old, _use_new_zipfile_serialization=False)
    with pytest.raises(TorchFileError, match="a file of torch before 1.6 must be saved again"):
        read_torch(old)


def test_a_damaged_file_is_read_or_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"config": {"model": "a"}, "state_dict": {"w": torch.rand(9)}}, path)
    whole, rng = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        content = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randint(1, 4)):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            read_torch(path)
        except TorchFileError as error:
            assert str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (torch.tensor([1.0, torch.nan]), "NaN or infinite values"),
        (torch.tensor([torch.inf]), "NaN or infinite values"),
        (torch.zeros(1).expand(10**12), "larger than the numbers in the file"),
        (torch.zeros(2, 2).to_sparse(), "not a plain tensor"),
        ("a", "not a plain tensor"),
    ],
)
def test_parameters_that_cannot_be_used_are_refused(value, fault):
    with pytest.raises(UserError, match=f"a.pth: 1 of its 2 parameters cannot.*, e.g. w: {fault}"):
        refuse_unusable({"fine": torch.ones(2), "w": value}, "a.pth", UserError)

    refuse_unusable({"counts": torch.ones(2, dtype=torch.long)}, "a.pth", UserError)


@pytest.mark.filterwarnings("error")
def test_nobody_is_warned_of_the_protocol_that_recbole_writes(tmp_path):
    torch.save({"a": Bomb()}, tmp_path / "a.pth", pickle_protocol=4)

    with pytest.raises(NotPlainData):
        read_torch(tmp_path / "a.pth")


def test_an_archive_is_checked_without_reading_its_pickle(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": Bomb(), "w": torch.ones(9)}, path)
    check_archive(path)
    whole = path.read_bytes()

    for damaged in (whole[:-50], whole.replace(torch.ones(9).numpy().tobytes(), bytes(36)), b""):
        path.write_bytes(damaged)
        with pytest.raises(TorchFileError):
            check_archive(path)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_is_reported_and_leaves_the_file_that_was_there(tmp_path, almost_full_disk):
    path = tmp_path / "a.pth"
    save_torch({"w": torch.ones(2)}, path)

    error = r"a\.pth cannot be written .*is the disk full\? Free"
    with almost_full_disk(), pytest.raises(CannotSave, match=error):
        save_torch({"w": torch.ones(10_000)}, path)

    assert read_torch(path)["w"].tolist() == [1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_an_own_reader_of_pickles_sees_every_name(tmp_path):
    class Nothing(pickle.Unpickler):
        def find_class(self, _, name):
            raise pickle.UnpicklingError(f"no {name}")

    module = types.ModuleType("nothing")
    module.Unpickler, module.load = Nothing, lambda file, **_: Nothing(file).load()
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pth")

    with pytest.raises(TorchFileError, match="no _rebuild_tensor_v2"):
        read_torch(tmp_path / "a.pth", module)
