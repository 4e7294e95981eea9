import gzip
import shutil
from collections import namedtuple

import pytest
from web_server import serving

from recbole_mm.prepare import download
from recbole_mm.prepare.download import DownloadError, Patience, fetch
from recbole_mm.prepare.web import open_session
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.locks import lock

CONTENT = bytes(range(256)) * 4000
PACKED = gzip.compress(b"text" * 1000, mtime=0)


@pytest.fixture
def server():
    with serving({"a.bin": CONTENT, "a.gz": PACKED}) as server:
        yield server


def get(server, name="a.bin", folder="got", sha256=None, **patience):
    session = open_session({server.host})
    patience = Patience(**{"pause": 0.0, **patience})
    return fetch([f"{server.url}/{name}"], folder, session, sha256, patience)


def test_a_file_comes_whole_and_only_once(server):
    assert get(server).read_bytes() == CONTENT
    assert get(server).read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [path.name for path in get(server).parent.iterdir()] == ["a.bin"]


def test_a_transfer_that_breaks_off_resumes_where_it_stopped(server):
    server.plan["a.bin"] = ["breaks off", "breaks off"]

    assert get(server).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=512000-", "bytes=768000-"]


def test_the_next_run_resumes_too(server):
    server.plan["a.bin"] = ["breaks off"]
    with pytest.raises(DownloadError, match=r"IncompleteRead.*gave up after 1 attempts"):
        get(server, retries=0)

    assert get(server).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.bin", "bytes=512000-")


def test_killed_at_its_last_step_and_run_again_it_leaves_nothing_but_the_file(server, monkeypatch):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing in the package catches it."""

    def kill(*_, **__):
        raise Killed

    for step in ("pathlib.Path.unlink", "recbole_mm.prepare.download.move_onto"):
        with monkeypatch.context() as patch:
            patch.setattr(step, kill)
            with pytest.raises(Killed):
                get(server)
    path = get(server)

    assert path.read_bytes() == CONTENT
    assert [left.name for left in path.parent.iterdir()] == ["a.bin"]


def test_a_file_that_has_changed_starts_from_scratch(server):
    server.plan["a.bin"] = ["breaks off"]
    with pytest.raises(DownloadError):
        get(server, retries=0)
    server.files["a.bin"], server.tag = CONTENT[::-1], '"v2"'

    assert get(server).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", ['W/"weak"', None])
def test_a_part_that_the_server_cannot_recognize_starts_from_scratch(server, tag):
    server.plan["a.bin"], server.tag = ["breaks off"], tag

    assert get(server).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None]


def test_a_server_that_cannot_resume_starts_from_scratch(server):
    server.plan["a.bin"], server.resumes = ["breaks off"], False

    assert get(server).read_bytes() == CONTENT


def test_another_range_than_the_missing_one_is_not_appended(server):
    server.plan["a.bin"] = ["breaks off", "another range"]

    assert get(server).read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "{", "[]", '{"url": 3}', '{"url": "x", "tag": null}'])
def test_a_damaged_note_starts_from_scratch(server, tmp_path, note):
    (tmp_path / "got").mkdir()
    (tmp_path / "got/a.bin.part").write_bytes(b"something else")
    (tmp_path / "got/a.bin.part.json").write_text(note)

    assert get(server).read_bytes() == CONTENT


def test_passing_errors_are_tried_again(server):
    server.plan["a.bin"] = [500, 503, 429]

    assert get(server).read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_a_server_is_given_the_time_that_it_asks_for_up_to_a_minute(server, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.plan["a.bin"] = [
        {"status": 429, "Retry-After": "7"},
        {"status": 429, "Retry-After": "3600"},
    ]

    assert get(server).read_bytes() == CONTENT
    assert [wait for wait in waits if wait] == [7.0, 60.0]


def test_a_final_error_is_not_tried_again_but_the_next_mirror_is(server):
    urls = [f"{server.url}/gone/a.bin", f"{server.url}/a.bin"]

    path = fetch(urls, "got", open_session({server.host}))

    assert path.read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/gone/a.bin", "/a.bin"]


def test_where_no_mirror_has_the_file_each_has_its_reason(server):
    server.plan["a.bin"] = [500] * 9
    urls = [f"{server.url}/gone/a.bin", f"{server.url}/a.bin"]

    with pytest.raises(
        DownloadError, match=r"(?s)gone/a.bin: HTTP 404.*a.bin: HTTP 500.*gave up after 3"
    ):
        fetch(urls, "got", open_session({server.host}), patience=Patience(2, 0.0))


def test_without_a_network_there_are_few_attempts():
    with pytest.raises(DownloadError, match="ConnectionError.*gave up after 3 attempts"):
        fetch(["http://127.0.0.1:9/a"], "got", open_session({"127.0.0.1"}), None, Patience(9, 0.0))


@pytest.mark.parametrize("content", [b"", b"<html>gone</html>", PACKED[:-20], b"plain text"])
def test_wrong_content_is_refused_and_removed(server, tmp_path, content):
    server.files["a.gz"] = content

    with pytest.raises(DownloadError):
        get(server, "a.gz")

    assert list((tmp_path / "got").glob("*.gz*")) == []


def test_the_hash_is_checked(server, tmp_path):
    good = sha256_of_file(get(server))

    assert get(server, folder="other", sha256={"a.bin": good}).is_file()
    with pytest.raises(DownloadError, match="the mirrors file has 00"):
        get(server, folder=tmp_path / "third", sha256={"a.bin": "00"})
    assert not (tmp_path / "third" / "a.bin").exists()


def test_a_file_without_an_announced_length_comes_whole(server):
    server.plan["a.bin"] = ["unannounced"]

    assert get(server).read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["abc", "-5"])
def test_a_length_that_is_not_a_number_is_not_believed(server, length):
    server.plan["a.bin"] = [{"status": 200, "Content-Length": length, "Connection": "close"}]

    with pytest.raises(DownloadError, match="an empty file|broke off|not a usable address"):
        get(server, retries=0)


def test_a_file_that_the_disk_cannot_hold_is_not_begun(server, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(download.KEPT_FREE + 1_000_000))

    with pytest.raises(
        DownloadError, match=r"1 MB are still to come, but the disk .*room for 1 MB"
    ):
        get(server)


def test_a_file_over_the_limit_is_refused_also_if_its_length_is_not_announced(server):
    with pytest.raises(DownloadError, match="1 MB, the limit is 1 MB"):
        get(server, largest=1_000_000)
    server.plan["a.bin"] = ["unannounced"]
    with pytest.raises(DownloadError, match="1 MB, the limit is 1 MB"):
        get(server, largest=1_000_000)


def test_a_transfer_that_takes_too_long_is_given_up(server):
    server.plan["a.bin"] = ["slow"]

    with pytest.raises(DownloadError, match="it took longer than"):
        get(server, retries=0, seconds=0.2)


def test_two_processes_do_not_write_the_same_file(server, tmp_path):
    why = "another process is downloading this file"
    with lock(tmp_path / "a.bin.part.lock"), pytest.raises(DownloadError, match=why):
        get(server, folder=tmp_path)

    assert not (tmp_path / "a.bin").exists()
