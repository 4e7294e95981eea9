"""The authors' layouts, written here as their scripts write them, and converted."""

import json
import pickle
import random

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_mm.data.feature_files import FeatureFileError
from recbole_mm.data.features import read_item_features
from recbole_mm.prepare.commands import convert
from recbole_mm.prepare.convert import read_json_lines, read_tab_lines
from recbole_mm.prepare.convert_missrec import convert_missrec
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.errors import UserError

SEQUENCES = {"0": list("0123"), "1": list("321043210"), "2": ["4", "0", "1"]}
TOKENS = ["[PAD]", *(f"B{i}" for i in range(5))]


def missrec_folder(root, longest=4):
    """Every prefix one row, lists cut to their last ``longest`` items."""
    folder = root / "Sci"
    folder.mkdir()
    rows = {"train": [], "valid": [], "test": []}
    for user, items in SEQUENCES.items():
        for end in range(1, len(items)):
            split = {len(items) - 1: "test", len(items) - 2: "valid"}.get(end, "train")
            rows[split].append(f"{user}\t{' '.join(items[:end][-longest:])}\t{items[end]}")
    for split, lines in rows.items():
        header = "user_id:token\titem_id_list:token_seq\titem_id:token"
        (folder / f"Sci.{split}.inter").write_text("\n".join([header, *lines]) + "\n")
    (folder / "Sci.item2index").write_text("".join(f"B{i}\t{i}\n" for i in range(5)))
    (folder / "Sci.user2index").write_text("".join(f"U{i}\t{i}\n" for i in range(3)))
    (folder / "Sci.text").write_text("item_id:token\ttext:token_seq\n0\tred toy\n3\tblue ball\n")
    features = np.arange(10, dtype=np.float32).reshape(5, 2)
    features.tofile(folder / "Sci.feat1CLS")
    features[[0, 2]] = 0
    features.tofile(folder / "Sci.feat3CLS")
    return folder


def test_what_is_wrong_in_a_file_is_named_by_that_file(tmp_path):
    folder = missrec_folder(tmp_path)
    features = np.fromfile(folder / "Sci.feat3CLS", np.float32)
    features[3] = np.nan
    features.tofile(folder / "Sci.feat3CLS")
    with pytest.raises(FeatureFileError, match=r"Sci.feat3CLS: NaN, .* in 1 item, e.g. \['B1'\]"):
        convert_missrec(folder, "Sci", tmp_path / "out")
    (folder / "Sci.user2index").write_text("U0\t0\n \t1\nU2\t2\n")
    with pytest.raises(InputError, match="Sci.user2index: its first column lacks a token"):
        convert_missrec(folder, "Sci", tmp_path / "out")


def mmm4rec_folder(root):
    folder = root / "Sci"
    folder.mkdir()
    events = {
        int(user): [[int(item) + 1, 100 * place] for place, item in enumerate(items)]
        for user, items in SEQUENCES.items()
    }
    splits = {
        "train": [(u, e[:end]) for u, e in events.items() for end in range(2, len(e) - 1)],
        "eval": [(u, e[:-1]) for u, e in events.items()],
        "test": list(events.items()),
        "item2id": [(f"B{i}", i + 1) for i in range(5)],
        "user2id": [(f"U{i}", i) for i in range(3)],
    }
    for name, lines in splits.items():
        name = name if name.endswith("2id") else f"{name}_seq"
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    known = {i + 1: {"vision": None if i in (0, 2) else "x.jpg", "text": "t"} for i in range(5)}
    (folder / "item.jsonl").write_text(json.dumps(known, indent=4))
    features = torch.arange(10.0).reshape(5, 2)
    torch.save(features, folder / "image_feat.pth")
    torch.save(torch.cat([torch.zeros(1, 2), features]), folder / "text_feat.pth")  # with padding
    return folder


def sequences_in(path):
    table = pd.read_csv(path, sep="\t", dtype=str)
    return table.groupby("user_id:token")["item_id:token"].agg("".join).to_dict()


@pytest.mark.parametrize("layout", ["missrec", "mmm4rec"])
def test_users_items_and_features_survive(tmp_path, layout):
    folder = {"missrec": missrec_folder, "mmm4rec": mmm4rec_folder}[layout](tmp_path)

    convert.main([layout, str(folder), f"--output={tmp_path}/out"])

    made = tmp_path / "out" / "Sci"
    expected = {
        f"U{user}": "".join(f"B{item}" for item in items) for user, items in SEQUENCES.items()
    }
    assert sequences_in(made / "Sci.inter") == expected
    text = read_item_features(made / "Sci.text.npz", TOKENS)
    image = read_item_features(made / "Sci.image.npz", TOKENS)
    assert text.values[4].tolist() == image.values[4].tolist() == [6, 7]
    assert text.present.tolist() == [False, True, True, True, True, True]
    assert image.present.tolist() == [False, False, True, False, True, True]


def test_times_are_kept_where_there_are_some(tmp_path):
    convert.main(["mmm4rec", str(mmm4rec_folder(tmp_path)), f"--output={tmp_path}/out"])

    table = pd.read_csv(tmp_path / "out/Sci/Sci.inter", sep="\t")
    assert table["timestamp:float"].tolist()[:4] == [0, 100, 200, 300]


def test_a_split_that_is_not_leave_one_out_is_refused(tmp_path):
    folder = missrec_folder(tmp_path)
    lines = (folder / "Sci.train.inter").read_text().splitlines()
    (folder / "Sci.train.inter").write_text("\n".join(lines[:-1]) + "\n")

    with pytest.raises(InputError, match="the train rows of user 1"):
        convert.main(["missrec", str(folder), f"--output={tmp_path}/out"])


def test_a_split_that_starts_elsewhere_is_refused(tmp_path):
    folder = mmm4rec_folder(tmp_path)
    (folder / "eval_seq.jsonl").write_text("[0, [[5, 0], [1, 100]]]\n")

    with pytest.raises(InputError, match="user 0's 2 events are not the start of the 4"):
        convert.main(["mmm4rec", str(folder), f"--output={tmp_path}/out"])


def test_features_of_another_data_set_are_refused(tmp_path):
    folder = mmm4rec_folder(tmp_path)
    torch.save(torch.ones(9, 2), folder / "text_feat.pth")
    with pytest.raises(InputError, match="9 rows for the 5 items"):
        convert.main(["mmm4rec", str(folder), f"--output={tmp_path}/out"])


def test_cut_features_are_refused(tmp_path):
    folder = missrec_folder(tmp_path)
    (folder / "Sci.feat1CLS").write_bytes(bytes(4 * 9))
    with pytest.raises(InputError, match="9 numbers for the 5 items"):
        convert.main(["missrec", str(folder), f"--output={tmp_path}/out"])


class Payload:
    def __reduce__(self):
        return (open, ("executed", "w"))


def test_a_pickle_is_not_executed(tmp_path):
    folder = mmm4rec_folder(tmp_path)
    (folder / "text_feat.pth").write_bytes(pickle.dumps(Payload(), protocol=2))

    with pytest.raises(InputError, match="not a plain tensor"):
        convert.main(["mmm4rec", str(folder), f"--output={tmp_path}/out"])
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("layout", ["missrec", "mmm4rec"])
def test_a_folder_without_the_files_names_them(tmp_path, layout):
    with pytest.raises(InputError, match="no such file"):
        convert.main([layout, str(tmp_path), f"--output={tmp_path}/out"])


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("Sci.item2index", "B0\t0\nB1\t1\n", "it lacks 3 items of the sequences, e.g. .'2'"),
        ("Sci.item2index", "B0\t0\nB1\n", "line 2 has 1 fields, expected 2"),
        ("Sci.item2index", "B0\t0\nB1\tone\n", "the numbers 0 to 1, each once"),
        ("Sci.item2index", "B\t0\nB\t1\n", "duplicate tokens"),
        ("Sci.item2index", b"\xe9\t0\n", "not in UTF-8"),
        ("Sci.text", "item_id:token\ttext:token_seq\n0\n", "line 2 has 1 fields"),
        ("Sci.test.inter", "user_id:token\titem_id:token\n0\t1\n", "no column 'item_id_list'"),
        ("Sci.test.inter", "user_id\titem_id\n0\t1\n", "its first line is"),
        (
            "Sci.test.inter",
            "user_id:token\titem_id_list:token_seq\titem_id:token\n0\t0 1\t\n",
            "1 row without item_id, the first is row 2",
        ),
        (
            "Sci.test.inter",
            "user_id:token\titem_id_list:token_seq\titem_id:token\n0\t0\t1\n0\t0\t1\n",
            "2 rows of user 0",
        ),
        ("Sci.valid.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\n", "no rows"),
        ("Sci.feat1CLS", "", "0 numbers for the 5 items"),
    ],
)
def test_a_malformed_file_of_missrec_is_named(tmp_path, file, content, words):
    folder = missrec_folder(tmp_path)
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(UserError, match=rf"{file}: (?s:.)*{words}"):
        convert.main(["missrec", str(folder), f"--output={tmp_path}/out"])


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("item2id.jsonl", '["B0", 1]\n', "it lacks 4 items of the sequences|numbers 1 to 1"),
        ("item2id.jsonl", '["B0", 1]\n["B1", 1]\n', "duplicate ids or tokens"),
        ("item2id.jsonl", '["B0", 0]\n["B1", 1]\n', "numbers 1 to 2, each once"),
        ("item2id.jsonl", '["B0"]\n', r"expected lines as \[token, id\]"),
        ("item2id.jsonl", '["B0", [1]]\n', r"expected lines as \[token, id\]"),
        ("user2id.jsonl", "{\n", "line 1 is not JSON"),
        ("test_seq.jsonl", "[0, 1]\n", r"expected lines as \[user, \[\[item, time\], ...\]\]"),
        ("test_seq.jsonl", '[0, [[1, "noon"]]]\n', "expected lines as"),
        ("test_seq.jsonl", "[[0], [[1, 2]]]\n", "expected lines as"),
        ("item.jsonl", "[]", "expected a JSON object of objects"),
        ("item.jsonl", "{", "not JSON"),
        ("text_feat.pth", "hello", "not a plain tensor"),
    ],
)
def test_a_malformed_file_of_mmm4rec_is_named(tmp_path, file, content, words):
    folder = mmm4rec_folder(tmp_path)
    (folder / file).write_text(content)

    with pytest.raises(InputError, match=rf"{file}: (?s:.)*{words}"):
        convert.main(["mmm4rec", str(folder), f"--output={tmp_path}/out"])


PIECES = (
    b"", b"\t", b"\n", b"\xff", b"\0", b"[", b"]", b"null", b"NaN", b"1e999", b"9" * 400, b"-1",
    b"true", b'"x"', b"{}", b"[" * 5000, b"Infinity", b"[PAD]",
)  # fmt: skip


def damage(content: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(content))
        piece = rng.choice([*PIECES, bytes([rng.randrange(256)])])
        content = content[:at] + piece + content[at + rng.choice([0, 1, rng.randint(1, 30)]) :]
    return content if rng.random() < 0.9 else content[: rng.randint(0, len(content))]


@pytest.mark.parametrize("layout", ["missrec", "mmm4rec"])
def test_a_damaged_folder_is_converted_or_refused(tmp_path, layout):
    folder = {"missrec": missrec_folder, "mmm4rec": mmm4rec_folder}[layout](tmp_path)
    files = sorted(folder.iterdir())
    rng, refused = random.Random(5), 0
    for _ in range(120):
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(damage(whole, rng))
        try:
            convert.main([layout, str(folder), f"--output={tmp_path}/out"])
        except UserError as error:
            assert "\n" not in str(error)
            assert "Sci" in str(error), str(error)
            refused += 1
        finally:
            file.write_bytes(whole)
    assert refused > 30


def test_only_the_end_of_a_line_ends_it(tmp_path):
    path = tmp_path / "texts"
    path.write_bytes("a\tb\u2028c\r\nd\te\x0c\n".encode())
    assert read_tab_lines(path, 2) == [["a", "b\u2028c"], ["d", "e\x0c"]]

    path.write_bytes('{"title": "x\x85y\u2028"}\n\n'.encode())
    assert read_json_lines(path) == [{"title": "x\x85y\u2028"}]
