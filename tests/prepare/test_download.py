"""Against a server on this machine that breaks off, refuses, lies and stutters as told."""

import gzip
import http.server
import io
import json
import threading

import pytest
from PIL import Image

from recbole_mm.prepare.download import DownloadError, fetch, fetch_pictures
from recbole_mm.tools.hashing import sha256_of_file

CONTENT = bytes(range(256)) * 4000
PACKED = gzip.compress(b"text" * 1000, mtime=0)  # stands in names of tests


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: ``plan[path]`` is a list of behaviours, used up one request at a time."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path.lstrip("/"))
        plan = server.plan.get(self.path.lstrip("/"), [])
        behaviour = plan.pop(0) if plan else "fine"
        if body is None:
            return self.answer(404, b"")
        if isinstance(behaviour, int):
            return self.answer(behaviour, b"busy")
        if behaviour == "html":
            return self.answer(200, b"<!DOCTYPE html><html>Please log in</html>")
        start = 0
        if self.headers.get("Range") and server.resumes:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if self.headers.get("If-Range") != server.tag:
                start = 0
        status = 206 if start else 200
        if behaviour == "breaks off":
            half = start + (len(body) - start) // 2
            self.answer(status, body[start:half], announced=len(body) - start)
            self.close_connection = True
            return None
        return self.answer(status, body[start:])

    def answer(self, status, body, announced=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.plan, server.asked = {"a.bin": CONTENT, "a.gz": PACKED}, {}, []
    server.tag, server.resumes = '"v1"', True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, name="a.bin", folder="got", **options):
    return fetch([f"{server.url}/{name}"], folder, pause=0.0, **options)


def test_a_file_comes_whole_and_only_once(server):
    assert get(server).read_bytes() == CONTENT
    assert get(server).read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [path.name for path in get(server).parent.iterdir()] == ["a.bin"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server):
    server.plan["a.bin"] = ["breaks off", "breaks off"]

    assert get(server).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=512000-", "bytes=768000-"]


def test_the_next_run_goes_on_too(server):
    server.plan["a.bin"] = ["breaks off"]
    with pytest.raises(DownloadError, match=r"gave up after 1 attempts.*512000 of 1024000"):
        get(server, retries=0)

    assert get(server).read_bytes() == CONTENT
    assert server.asked[-1] == ("/a.bin", "bytes=512000-")


def test_a_file_that_changed_meanwhile_starts_anew(server):
    server.plan["a.bin"] = ["breaks off"]
    with pytest.raises(DownloadError):
        get(server, retries=0)
    server.files["a.bin"], server.tag = CONTENT[::-1], '"v2"'

    assert get(server).read_bytes() == CONTENT[::-1]


def test_a_server_that_cannot_resume_starts_anew(server):
    server.plan["a.bin"], server.resumes = ["breaks off"], False

    assert get(server).read_bytes() == CONTENT


def test_passing_errors_are_tried_again(server):
    server.plan["a.bin"] = [500, 503, 429]

    assert get(server).read_bytes() == CONTENT
    assert len(server.asked) == 4


def test_a_final_error_is_not_tried_again_but_the_next_mirror_is(server):
    urls = [f"{server.url}/gone/a.bin", f"{server.url}/a.bin"]

    assert fetch(urls, "got", pause=0.0).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["/gone/a.bin", "/a.bin"]


def test_no_mirror_lists_each_reason(server):
    server.plan["a.bin"] = [500] * 9
    urls = [f"{server.url}/gone/a.bin", f"{server.url}/a.bin"]

    with pytest.raises(DownloadError, match=r"(?s)gone/a.bin: HTTP 404.*a.bin: gave up.*HTTP 500"):
        fetch(urls, "got", retries=2, pause=0.0)


@pytest.mark.parametrize("content", [b"", b"<html>gone</html>", PACKED[:-20], b"plain text"])
def test_wrong_content_is_refused_and_removed(server, tmp_path, content):
    server.files["a.gz"] = content

    with pytest.raises(DownloadError):
        get(server, "a.gz", folder=tmp_path / "got")

    assert list((tmp_path / "got").glob("*.gz*")) == []


def test_the_hash_is_checked(server, tmp_path):
    good = sha256_of_file(get(server))

    assert get(server, folder="other", sha256={"a.bin": good}).is_file()
    with pytest.raises(DownloadError, match="mirrors.yaml has 00"):
        get(server, folder=tmp_path / "third", sha256={"a.bin": "00"})
    assert not (tmp_path / "third" / "a.bin").exists()


def picture(color):
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(stream, "JPEG")
    return stream.getvalue()


def test_pictures_come_and_what_could_not_be_had_is_reported(server, tmp_path):
    server.files |= {"red.jpg": picture("red"), "blue": picture("blue"), "cut.jpg": picture("red")}
    server.files["cut.jpg"] = server.files["cut.jpg"][:300]
    server.plan = {"red.jpg": [503], "page.jpg": ["html"], "slow.jpg": [500] * 9}
    server.files |= {"page.jpg": b"", "slow.jpg": picture("red")}
    names = {"a": "red.jpg", "b": "blue", "c": "cut.jpg", "d": "gone.jpg", "e": "page.jpg"}
    urls = {item: f"{server.url}/{name}" for item, name in {**names, "f": "slow.jpg"}.items()}

    got = fetch_pictures(urls, tmp_path, pause=0.0)

    assert got == {"a": "a.jpg", "b": "b.jpg"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert {item: one["final"] for item, one in report.items()} == {
        "c": True, "d": True, "e": True, "f": False,
    }  # fmt: skip
    assert "HTTP 404" in report["d"]["why"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.jpg", "report.json"]


def test_the_next_run_asks_only_for_pictures_that_may_still_come(server, tmp_path):
    server.files |= {"red.jpg": picture("red"), "slow.jpg": picture("blue")}
    server.plan = {"slow.jpg": [500] * 3}
    urls = {name: f"{server.url}/{name}.jpg" for name in ("red", "slow", "gone")}
    fetch_pictures(urls, tmp_path, pause=0.0)
    server.asked.clear()

    got = fetch_pictures(urls, tmp_path, pause=0.0)

    assert sorted(got) == ["red", "slow"]
    assert [path for path, _ in server.asked] == ["/slow.jpg"]
    assert list(json.loads((tmp_path / "report.json").read_text())) == ["gone"]
