"""The command, its output, and what happens when it cannot go on."""

import gzip
import io
import os
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recbole_mm.cli import main
from recbole_mm.recommend.histories import Histories
from recbole_mm.recommend.output import PartialOutput
from recbole_mm.recommend.paths import require_new
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.request import Answer, Request
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.locks import locked

ONE_USER = "user,item\nanna,i1\nanna,i2\n"


@pytest.fixture
def checkpoint(trained):
    return trained("UniSRec").result.checkpoint


@pytest.fixture
def histories(tmp_path):
    path = tmp_path / "today.csv"
    path.write_text(ONE_USER)
    return path


def read(path):
    readers = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}
    if path.suffix == ".tsv":
        return pl.read_csv(path, separator="\t")
    return readers[path.suffix](path)


def recommend(*options):
    return main(["recommend", "--no-progress", *map(str, options)])


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_the_output_has_the_lists_of_the_class(suffix, checkpoint, histories, tmp_path, capsys):
    output = tmp_path / "out" / f"top{suffix}"

    status = recommend(
        f"--model={checkpoint}", f"--histories={histories}", "--k=3", f"--output={output}"
    )

    assert status == 0
    assert capsys.readouterr().out == f"{output}: 1 user\n"
    expected = Recommender.from_pretrained(checkpoint).recommend(histories, k=3)
    table = read(output)
    assert table.columns == expected.columns
    assert table["item"].to_list() == expected["item"].to_list()
    assert table["score"].to_list() == pytest.approx(expected["score"].to_list(), rel=1e-5)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_options_reach_the_request(checkpoint, tmp_path):
    (tmp_path / "lines.tsv").write_text("kunde\tware\nanna\ti1 i2\nbert\t\n")
    (tmp_path / "users.txt").write_text("bert\nanna\n")
    (tmp_path / "items.csv").write_text("ware\ni1\ni2\ni3\ni4\n")
    (tmp_path / "exclude.txt").write_text("i4\n")
    output = tmp_path / "top.csv"

    status = recommend(
        f"--model={checkpoint}", f"--histories={tmp_path}/lines.tsv", f"--output={output}", "--k=2",
        f"--users={tmp_path}/users.txt", f"--items={tmp_path}/items.csv", "--filter_seen", "--lists",
        f"--exclude={tmp_path}/exclude.txt", "--user_column=kunde", "--item_column=ware",
        "--result_columns=user=kunde,item=ware", "--device=cpu", "--batch_size=7",
    )  # fmt: skip

    table = read(output)
    assert status == 0
    assert table.columns == ["kunde", "ware", "score", "rank", "source"]
    assert table["kunde"].to_list() == ["bert", "bert", "anna"]
    assert set(table["ware"][:2]) < {"i1", "i2", "i3"} and table["ware"][2] == "i3"


def test_titles_and_pictures_are_joined(checkpoint, histories, tmp_path):
    rows = [f"i{i}\tTitle {i}\tp{i}.jpg" for i in range(11)]  # i11 has none
    header = "item_id:token\ttitle:token_seq\timage:token"
    (tmp_path / "dataset/toy/toy.item").write_text("\n".join([header, *rows]) + "\n")
    (tmp_path / "dataset/toy/toy.card.json").write_text('{"pictures": "../../shop"}')
    output = tmp_path / "top.csv"

    recommend(
        f"--model={checkpoint}",
        f"--histories={histories}",
        f"--output={output}",
        "--k=12",
        "--titles",
        "--pictures",
    )

    rows = {
        item: (title, image)
        for item, title, image in read(output).select("item", "title", "image").rows()
    }
    assert rows["i3"] == ("Title 3", str(tmp_path / "shop/p3.jpg"))
    assert rows["i11"] == (None, None)


def test_an_output_that_exists_is_kept_unless_told_otherwise(
    checkpoint, histories, tmp_path, capsys
):
    output = tmp_path / "top.csv"
    output.write_text("mine")
    command = f"--model={checkpoint}", f"--histories={histories}", f"--output={output}"

    assert recommend(*command) == 2
    assert "top.csv exists; give another output, or --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert recommend(*command, "--overwrite") == 0
    assert len(read(output)) == 10


@pytest.mark.parametrize("option", ["--histories", "--candidates", "--items", "--new-items"])
@pytest.mark.parametrize("spelling", ["the same", "another", "link"])
def test_an_input_is_never_overwritten(option, spelling, checkpoint, histories, tmp_path, capsys):
    content = histories.read_text()
    output = {
        "the same": histories,
        "another": tmp_path / "saved" / ".." / "today.csv",
        "link": tmp_path / "linked.csv",
    }[spelling]
    if spelling == "link":
        output.symlink_to(histories)
    command = f"--model={checkpoint}", f"{option}={histories}", f"--output={output}"

    assert recommend(*command, "--overwrite") == 2

    error = capsys.readouterr().err
    assert f"--output={output} is the same file as {option}={histories}" in error
    assert histories.read_text() == content
    recommender = Recommender.from_pretrained(checkpoint)
    with pytest.raises(UserError, match="is the same file as histories="):
        recommender.write(output, histories, overwrite=True)


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv.gz", ".jsonl.gz"])
def test_a_packed_output_holds_the_same_table(suffix, checkpoint, histories, tmp_path):
    command = f"--model={checkpoint}", f"--histories={histories}", "--k=3"
    plain, packed = tmp_path / f"plain{suffix[:-3]}", tmp_path / f"top{suffix}"

    assert recommend(*command, f"--output={plain}") == 0
    assert recommend(*command, f"--output={packed}") == 0

    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert not list(tmp_path.glob(".top*"))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_histories_may_come_from_the_standard_input(
    pack, checkpoint, histories, tmp_path, monkeypatch
):
    expected = Recommender.from_pretrained(checkpoint).recommend(histories, k=3)
    given = io.TextIOWrapper(io.BytesIO(pack(histories.read_bytes())))
    monkeypatch.setattr("sys.stdin", given)
    output = tmp_path / "top.csv"

    assert recommend(f"--model={checkpoint}", "--histories=-", "--k=3", f"--output={output}") == 0

    assert read(output)["item"].to_list() == expected["item"].to_list()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_histories_may_come_from_a_pipe(checkpoint, histories, tmp_path):
    pipe, output = tmp_path / "pipe", tmp_path / "top.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(histories.read_text()), daemon=True)
    writer.start()

    assert recommend(f"--model={checkpoint}", f"--histories={pipe}", f"--output={output}") == 0

    assert read(output)["user"].unique().to_list() == ["anna"]


def test_a_log_has_no_progress_bar(checkpoint, histories, tmp_path, capfd):
    command = [f"--model={checkpoint}", f"--histories={histories}"]

    assert main(["recommend", *command, f"--output={tmp_path}/top.csv"]) == 0

    assert "user/s" not in capfd.readouterr().err


def parts_computed(monkeypatch, stop_before=None):
    """Numbers of the parts that are computed from now on."""
    computed, original = [], Answer.part

    def part(self, number, progress=None):
        if number == stop_before:
            raise KeyboardInterrupt
        computed.append(number)
        return original(self, number, progress)

    monkeypatch.setattr(Answer, "part", part)
    return computed


def test_a_command_that_is_interrupted_at_its_end_can_be_repeated(
    checkpoint, histories, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out" / "top.csv"
    command = f"--model={checkpoint}", f"--histories={histories}", f"--output={output}"

    def interrupt(folder, **_):
        if str(folder).endswith(".partial") and os.path.exists(folder):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("recbole_mm.recommend.output.shutil.rmtree", interrupt)
        assert recommend(*command) == 130
    assert not output.exists()

    assert recommend(*command) == 0
    assert recommend(*command, "--overwrite") == 0
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert recommend(*command) == 2
    assert "top.csv exists; give another output, or --overwrite" in capsys.readouterr().err


def test_an_interrupted_command_resumes(checkpoint, tmp_path, monkeypatch, capsys, caplog):
    output, whole = tmp_path / "top.parquet", tmp_path / "whole.parquet"
    monkeypatch.setattr("recbole_mm.recommend.request.USERS_PER_PART", (10, 10))
    assert recommend(f"--model={checkpoint}", f"--output={whole}") == 0
    with monkeypatch.context() as patched:
        assert parts_computed(patched, stop_before=2) == []
        assert recommend(f"--model={checkpoint}", f"--output={output}") == 130
    assert not output.exists()
    assert "The lists of 20 users are finished and kept in " in caplog.text

    computed = parts_computed(monkeypatch)
    assert recommend(f"--model={checkpoint}", f"--output={output}") == 0

    assert computed == [2, 3]
    assert read(output).equals(read(whole))
    assert "40 users" in capsys.readouterr().out
    assert not list(tmp_path.glob(".top*"))


@pytest.mark.parametrize("changed", ["--k=9", "--histories", "features"])
def test_another_request_starts_from_scratch(changed, checkpoint, histories, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_mm.recommend.request.USERS_PER_PART", (1, 1))
    histories.write_text(ONE_USER + "bert,i4\n")
    command = [
        f"--model={checkpoint}",
        f"--output={tmp_path / 'top.csv'}",
        f"--histories={histories}",
    ]
    with monkeypatch.context() as patched:
        parts_computed(patched, stop_before=1)
        assert recommend(*command) == 130

    if changed == "--histories":
        histories.write_text(ONE_USER + "bert,i5\n")
    elif changed == "features":  # which a checkpoint leaves to its data set
        path = tmp_path / "dataset/toy/toy.text.npz"
        arrays = dict(np.load(path))
        np.savez(path, **{**arrays, "feature": arrays["feature"][::-1]})
    else:
        command.append(changed)
    computed = parts_computed(monkeypatch)
    assert recommend(*command) == 0

    assert computed == [0, 1]


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(
    checkpoint, tmp_path, monkeypatch, capsys
):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    output = tmp_path / "top.csv"
    with monkeypatch.context() as patched:
        patched.setattr(pl.LazyFrame, "sink_csv", full)
        assert recommend(f"--model={checkpoint}", f"--output={output}") == 1

    error = capsys.readouterr().err
    assert f"{output}: cannot be written: [Errno 28] No space left on device" in error
    assert error.count("\n") == 1
    assert not output.exists()
    computed = parts_computed(monkeypatch)
    assert recommend(f"--model={checkpoint}", f"--output={output}") == 0
    assert computed == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=no.pth"], "no.pth does not exist; give a checkpoint, the folder of a bundle, or OWNER/NAME"),
        (["--histories=no.csv"], "no.csv: no such file"),
        (["--histories=today.xls2"], "format '.xls2' is unknown; known formats are"),
        (["--histories=dataset"], "dataset: it is a folder; give a file in it"),
        (["--output=-"], "- is not a file; lists are written whole or not at all"),
        (["--output=top.parquet.gz"], "the format '.parquet.gz' is unknown"),
        (["--output=top.xls"], "the format '.xls' is unknown; use .parquet"),
        (["--items=today.xls2"], "format '.xls2' is unknown"),
        (["--k=0"], "k is 0; it must be a whole number >= 1"),
        (["--request_time=1700000000000"], "request_time is 1700000000000, before 1970 or after 2100"),
        (["--request_time=noon"], "--request-time=noon: give unix seconds, or a date like"),
        (["--result_columns=user"], "--result-columns=user: write NAME=NEW"),
        (["--titles"], "omit --titles (in Python titles=True)"),
        (["--strict"], "today.csv: the catalog does not have the items of 1 of 3 events, e.g. 'ghost'; add them with --new-items"),
        (["--user_column=use"], "no column 'use': name it with --user-column (in Python TableForm(user=...); did you mean 'user'?)"),
        (["--device=tpu"], "device 'tpu' cannot be used"),
        (["--images=."], "--images: only for a table of new items: give --new-items or --catalog"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(options, message, checkpoint, histories, tmp_path, capsys):
    (tmp_path / "today.xls2").write_text("")
    histories.write_text(f"{ONE_USER}anna,ghost\n")
    command = [f"--model={checkpoint}", f"--histories={histories}", f"--output={tmp_path}/top.csv"]

    assert recommend(*command, *options) == 2

    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "top.csv").exists()


def test_a_folder_that_may_not_be_read_is_named_like_one_that_may_not_be_written(
    tmp_path, monkeypatch
):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "top.csv")

    monkeypatch.setattr("recbole_mm.tools.files.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)  # as in a folder without the right to search it

    with pytest.raises(UserError, match="cannot write to the folder .*Give another output"):
        require_new(tmp_path / "top.csv", overwrite=False)


def test_a_data_set_that_is_gone_is_named(checkpoint, tmp_path, capsys):
    command = f"--model={checkpoint}", f"--output={tmp_path}/top.csv", "--data_path=nowhere"

    assert recommend(*command) == 2
    assert f"nowhere{os.sep}toy" in capsys.readouterr().err


def with_a_bit_flipped(content: bytes) -> bytes:
    """In the middle of the largest member; between members there is padding."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = archive.read(max(archive.infolist(), key=lambda member: member.file_size))
    place = content.index(data) + len(data) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


SPOILED = {
    "truncated": lambda content: content[: len(content) // 2],
    "text": lambda _: b"not a checkpoint",
    "empty": lambda _: b"",
    "one bit off": with_a_bit_flipped,
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_file_that_is_not_a_checkpoint_is_one_line(kind, checkpoint, tmp_path, capsys):
    path = tmp_path / "bad.pth"
    path.write_bytes(SPOILED[kind](Path(checkpoint).read_bytes()))

    assert recommend(f"--model={path}", f"--output={tmp_path}/top.csv") == 2

    error = capsys.readouterr().err
    assert "bad.pth: not a checkpoint of " in error and "or a damaged one" in error
    assert error.count("\n") == 1


def test_an_interruption_before_the_first_list_keeps_what_an_earlier_run_has_finished(
    checkpoint, tmp_path, monkeypatch
):
    command = f"--model={checkpoint}", f"--output={tmp_path / 'top.csv'}"
    monkeypatch.setattr("recbole_mm.recommend.request.USERS_PER_PART", (10, 10))
    with monkeypatch.context() as patched:
        parts_computed(patched, stop_before=2)
        assert recommend(*command) == 130

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Recommender, "_answer", interrupt)
        assert recommend(*command) == 130

    computed = parts_computed(monkeypatch)
    assert recommend(*command) == 0
    assert computed == [2, 3]


def test_a_refused_command_leaves_nothing_behind(checkpoint, tmp_path, capsys):
    (tmp_path / "today.csv").write_text("user,item\nanna,i1\n")

    command = [f"--model={checkpoint}", f"--output={tmp_path}/top.csv", "--titles"]
    assert recommend(*command, f"--histories={tmp_path}/today.csv") == 2

    assert "omit --titles" in capsys.readouterr().err
    assert not [path for path in tmp_path.glob(".top.csv*") if path.suffix != ".lock"]


def test_a_part_holds_enough_users_to_be_worthwhile_and_few_enough_to_lose(checkpoint):
    recommender = Recommender.from_pretrained(checkpoint)
    sizes = {}
    for n_users in (10, 50_000, 2_000_000, 10_000_000):
        histories = Histories(pl.LazyFrame({"item_id": [], "place": []}), n_users, "a table")
        answer = Answer(recommender.model, recommender.catalog, histories, Request(k=5))
        sizes[n_users] = answer.users_per_part

    assert sizes == {10: 10, 50_000: 16_384, 2_000_000: 31_250, 10_000_000: 65_536}


def test_processes_of_torchrun_share_the_users(checkpoint, tmp_path, python):
    output, alone = tmp_path / "top.parquet", tmp_path / "alone.parquet"
    assert recommend(f"--model={checkpoint}", f"--output={alone}") == 0
    (tmp_path / "histories.csv").write_text(
        "user,item\n" + "".join(f"u{i},i{i % 12}\n" for i in range(25))
    )
    command = [*python, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += [
        "--no_python",
        *python,
        "-m",
        "recbole_mm",
        "recommend",
        f"--model={checkpoint}",
        "--no-progress",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        [*command, f"--output={output}"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.count("40 users") == 1
    assert read(output).drop("score").equals(read(alone).drop("score"))
    histories = [f"--histories={tmp_path}/histories.csv", f"--output={output}", "--overwrite"]
    subprocess.run([*command, *histories], env=environment, capture_output=True, check=True)
    assert read(output)["user"].unique(maintain_order=True).to_list() == [
        f"u{i}" for i in range(25)
    ]


def test_a_second_command_on_the_same_file_is_refused(checkpoint, histories, tmp_path, capsys):
    output = tmp_path / "top.csv"
    command = (f"--model={checkpoint}", f"--histories={histories}", f"--output={output}", "--k=2")

    with locked(tmp_path / ".top.csv.partial.lock", "held"):
        assert recommend(*command) == 2
        assert "another command is writing it" in capsys.readouterr().err
    assert recommend(*command) == 0


def test_only_the_parts_of_the_plan_are_joined(checkpoint, histories, tmp_path, monkeypatch):
    fill = PartialOutput.fill

    def leave_more(self, *arguments):
        shown = fill(self, *arguments)
        part = pl.read_parquet(self.folder / "000000.parquet")
        part.with_columns(user=pl.lit("other")).write_parquet(self.folder / "000001.parquet")
        return shown

    monkeypatch.setattr(PartialOutput, "fill", leave_more)
    output = tmp_path / "top.csv"

    assert recommend(f"--model={checkpoint}", f"--histories={histories}", f"--output={output}") == 0
    assert "other" not in read(output)["user"].to_list()


def test_an_empty_list_of_users_is_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / "users.txt").write_text("")
    users = f"--users={tmp_path / 'users.txt'}"

    assert recommend(f"--model={checkpoint}", users, f"--output={tmp_path / 'top.csv'}") == 2
    assert "the list is empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.glob(".top*")] == []


def test_a_data_set_of_histories_needs_histories_of_users(trained, tmp_path, capsys):
    """Its files hold single targets, so nobody knows the whole history of a user."""
    lines = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    folder = tmp_path / "dataset" / "toy"
    for part in ("train", "valid", "test"):
        rows = [f"u{n}\ti{n % 12} i{(n + 1) % 12}\ti{(n + 2) % 12}\n" for n in range(40)]
        (folder / f"toy.{part}.inter").write_text(lines + "".join(rows))
    settings = {"benchmark_filename": ["train", "valid", "test"], "softmax": "full"}
    settings["load_col"] = {"inter": ["user_id", "item_id_list", "item_id"]}
    model = trained("UniSRec", **settings).result.checkpoint

    assert recommend(f"--model={model}", f"--output={tmp_path / 'top.csv'}") == 2
    assert "its files hold histories of single targets" in capsys.readouterr().err
