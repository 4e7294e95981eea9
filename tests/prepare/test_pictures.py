import io
import json

import pytest
from PIL import Image
from web_server import serving

from recbole_mm.prepare.download import DownloadError
from recbole_mm.prepare.pictures import PATIENCE, UNREACHABLE, fetch_pictures
from recbole_mm.prepare.web import open_session

QUICK = PATIENCE._replace(pause=0.0)


def picture(color, format="JPEG"):
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), color).save(stream, format)
    return stream.getvalue()


@pytest.fixture
def server():
    with serving({"red.jpg": picture("red"), "blue": picture("blue")}) as server:
        yield server


def get(server, names, folder, **patience):
    """Pictures of items by the last part of their addresses."""
    urls = {
        item: name if "//" in name or ":" in name else f"{server.url}/{name}"
        for item, name in names.items()
    }
    return fetch_pictures(urls, folder, open_session({server.host}), QUICK._replace(**patience))


def test_pictures_come_and_what_could_not_be_had_is_reported(server, tmp_path):
    server.files |= {"cut.jpg": server.files["red.jpg"][:300], "slow.jpg": picture("red")}
    server.files |= {"page.jpg": b""}
    server.plan = {"red.jpg": [503], "page.jpg": ["html"], "slow.jpg": [500] * 9}
    names = {"a": "red.jpg", "b": "blue", "c": "cut.jpg", "d": "gone.jpg", "e": "page.jpg"}

    got = get(server, {**names, "f": "slow.jpg"}, tmp_path)

    assert got.names == {"a": "a.jpg", "b": "b.jpg"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert {item: failure["is_final"] for item, failure in report.items()} == {
        "c": True, "d": True, "e": True, "f": False,
    }  # fmt: skip
    assert "HTTP 404" in report["d"]["why"]
    assert got.reasons() == {
        "not a picture": 2, "HTTP 404 Not Found": 1, "HTTP 500 Internal Server Error": 1,
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "b.jpg", "report.json"]


def test_the_next_run_asks_only_for_pictures_that_may_still_come(server, tmp_path):
    server.files["slow.jpg"] = picture("blue")
    server.plan = {"slow.jpg": [500] * 3}
    names = {name: f"{name}.jpg" for name in ("red", "slow", "gone")}
    get(server, names, tmp_path)
    server.asked.clear()

    got = get(server, names, tmp_path)

    assert sorted(got.names) == ["red", "slow"]
    assert [path for path, _ in server.asked] == ["/slow.jpg"]
    assert list(got.failed) == list(json.loads((tmp_path / "report.json").read_text())) == ["gone"]


def test_a_picture_with_another_address_is_asked_for_again(server, tmp_path):
    get(server, {"a": "gone.jpg"}, tmp_path)

    assert get(server, {"a": "red.jpg"}, tmp_path).names == {"a": "a.jpg"}


def test_a_picture_that_the_user_put_there_is_taken(server, tmp_path):
    (tmp_path / "a.PNG").write_bytes(picture("red", "PNG"))

    assert get(server, {"a": "gone.jpg"}, tmp_path).names == {"a": "a.PNG"}
    assert server.asked == []


@pytest.mark.parametrize("report", ["", "{", "[]", '{"a": 1}', '{"a": {"x": 1}}', "[" * 10_000])
def test_a_damaged_report_is_forgotten(server, tmp_path, report):
    (tmp_path / "report.json").write_text(report)

    assert get(server, {"a": "red.jpg", "b": "gone"}, tmp_path).names == {"a": "a.jpg"}
    assert list(json.loads((tmp_path / "report.json").read_text())) == ["b"]


@pytest.mark.parametrize(
    "item", ["../../x", "/etc/cron.d/x", "a/b", "x" * 300, "ж" * 200, "..", "a\0b"]
)
def test_no_item_names_a_file_outside_the_folder(server, tmp_path, item):
    got = get(server, {item: "red.jpg"}, tmp_path / "in" / "images")

    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
    assert (tmp_path / "in" / "images" / got.names[item]).is_file()


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd", "ftp://h/x.jpg", "http://", "http://[h/x.jpg", "http://h:port/x",
        "http://" + "a." * 200 + "/x", "http://\u2603.\ud800/x", "//x", "http:///a b\n\t", "data:,x",
    ],
)  # fmt: skip
def test_an_odd_address_ends_no_other(server, tmp_path, address):
    got = get(server, {"a": address, "b": "red.jpg"}, tmp_path, retries=0)

    assert got.names == {"b": "b.jpg"}
    assert list(got.failed) == ["a"]


def test_an_address_with_blanks_and_letters_beyond_ascii_works(server, tmp_path):
    server.files["a%20b%C3%A9.jpg"] = picture("red")

    assert get(server, {"a": "a bé.jpg"}, tmp_path).names == {"a": "a.jpg"}


def test_a_picture_in_a_private_network_is_refused(server, tmp_path):
    with serving({"a.jpg": picture("red")}) as private:
        got = get(server, {"a": f"{private.url}/a.jpg"}, tmp_path)

    assert private.asked == []
    assert "private network" in got.failed["a"].why
    assert got.failed["a"].is_final


def test_too_large_a_picture_is_refused(server, tmp_path):
    got = get(server, {"a": "red.jpg"}, tmp_path, largest=100)

    assert "the limit is 0 MB" in got.failed["a"].why


def test_other_formats_are_not_pictures(server, tmp_path):
    server.files["a.eps"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"

    assert get(server, {"a": "a.eps"}, tmp_path).reasons() == {"not a picture": 1}


def test_without_a_network_it_ends_early_and_keeps_what_it_knows(tmp_path):
    nobody = {f"n{n}": "http://127.0.0.1:9/x.jpg" for n in range(3 * UNREACHABLE)}

    with pytest.raises(
        DownloadError, match="nothing answers: http://127.0.0.1:9/x.jpg: ConnectionError"
    ):
        fetch_pictures(nobody, tmp_path, open_session({"127.0.0.1"}), QUICK)

    assert UNREACHABLE <= len(json.loads((tmp_path / "report.json").read_text())) < len(nobody)
