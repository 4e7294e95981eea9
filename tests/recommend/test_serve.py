"""The page and the HTTP interface of recbole-mm serve, by a real client and a real browser."""

import json
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlparse

import polars as pl
import pytest
import requests
from PIL import Image

from recbole_mm.cli import main
from recbole_mm.recommend.recommender import Recommender

pytestmark = [
    pytest.mark.slow,
    # not imported to find out, for it takes long in every process that collects the tests
    pytest.mark.skipif(find_spec("gradio") is None, reason="serve needs recbole_mm[serve]"),
]

HOSTILE = "<img src=x onerror=\"document.title='broken'\"> ${alert(1)} {{value}}"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture
def recommender(trained):
    """A trained model whose items have titles, one of them hostile."""
    run = trained("UniSRec", use_item_id=True)
    opened = Recommender.from_pretrained(run.result.checkpoint, device="cpu")
    titles = [None, *(f"Thing {n}" for n in range(12))]
    titles[opened.catalog.tokens.to_list().index("i4")] = HOSTILE
    catalog = opened.catalog._replace(titles=pl.Series(titles, dtype=pl.String))
    return Recommender(opened._opened._replace(catalog=catalog))


@pytest.fixture
def pictures(tmp_path):
    """Pictures of some items; that of i3 leads out of the folder."""
    folder, outside = tmp_path / "pictures", tmp_path / "secret.png"
    folder.mkdir()
    for number in (4, 5, 6):
        Image.new("RGB", (40, 30), (20 * number, 90, 160)).save(folder / f"i{number}.png")
    (folder / "i7.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 30), "red").save(outside)
    (folder / "i3.png").symlink_to(outside)
    return folder


@pytest.fixture
def address(recommender, pictures):
    """Of a running server."""
    from recbole_mm.recommend.web_page import Service, launch, page_of

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = page_of(Service(recommender, pictures))
    _, url, _ = launch(page, "127.0.0.1", port)
    yield url.rstrip("/")
    page.close()


def call(address, *data):
    """The answer of ``/recommend`` by plain HTTP: the name of the event, and its data."""
    begun = requests.post(
        f"{address}/gradio_api/call/recommend", json={"data": list(data)}, timeout=20
    )
    assert begun.status_code == 200, begun.text
    event = begun.json()["event_id"]
    answer = requests.get(f"{address}/gradio_api/call/recommend/{event}", timeout=20).text
    name, _, text = answer.strip().partition("\n")
    return name.removeprefix("event: "), text.removeprefix("data: ")


def test_a_client_gets_what_the_recommender_recommends_and_why(address, recommender):
    from gradio_client import Client

    expected = recommender.recommend(pl.DataFrame({"user": ["u"], "items": [["i1", "i2"]]}), k=3)

    client = Client(address, verbose=False, analytics_enabled=False)
    rows = client.predict(["i1", "i2"], 3, None, api_name="/recommend")
    by_title = client.predict(["thing 1", "i2"], 3, ["text", "image"], api_name="/recommend")
    by_text = client.predict(["i1", "i2"], 3, ["text"], api_name="/recommend")
    others = client.predict(["i1", "i2"], k=12, filter_seen=True, api_name="/recommend")

    assert [row["item"] for row in rows] == expected["item"].to_list()
    assert rows == by_title
    assert set(rows[0]["parts"]) == {"text", "image", "id"}
    assert set(rows[0]["nearest"]) == {"text", "image"}
    assert set(by_text[0]["nearest"]) == {"text"}
    assert len(others) == 10 and {"i1", "i2"}.isdisjoint(row["item"] for row in others)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([["nothing"], 3, None], "no item 'nothing' in the catalog"),
        ([[], 3, None], "the history is empty"),
        ([["i1"], 1000, None], "k: give a number from 1 to 12"),
        ([["i1"], "x", None], "k: give a number"),
        ([["i1"], 3, ["sound"]], "no modality 'sound'"),
        (["i1", 3, None], "history: give a list"),
        ([[{"a": 1}], 3, None], "no item"),
        ([["i1"] * 2000, 3, None], "at most 1000 items"),
        ([], "history: give a list"),
        ([["i1"], 3, None, "no"], "filter_seen: give true or false"),
        ([["i1"], 3, None, False, ["noon"]], "times: give a list of unix seconds"),
        ([["i1"], 3, None, False, [1.0, 2.0]], "1 items, but 2 times"),
    ],
)
def test_input_that_cannot_be_used_gets_a_message(address, capfd, data, message):
    name, text = call(address, *data)

    assert name == "error"
    assert message in json.loads(text)["error"]
    assert "Traceback" not in text + "".join(capfd.readouterr())


def test_no_file_is_sent(address, pictures, tmp_path):
    (tmp_path / "private.txt").write_text("private")

    for path in (
        "/etc/passwd", tmp_path / "private.txt", "private.txt", pictures / "i4.png",
        "pictures/../private.txt", tmp_path / "secret.png",
    ):  # fmt: skip
        for route in (f"gradio_api/file={path}", f"file={path}"):
            answer = requests.get(f"{address}/{route}", timeout=20)
            assert answer.status_code in (403, 404), (route, answer.status_code)
    upload = requests.post(
        f"{address}/gradio_api/upload", files={"files": ("a.html", b"x" * 5000)}, timeout=20
    )
    assert upload.status_code == 413


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_click_shows_titles_pictures_and_reasons(address, recommender, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    from recbole_mm.recommend.web_page import Service

    messages, hosts = [], set()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(OPTIONS))
        page = browser.new_page(viewport={"width": 1200, "height": 1000})
        page.on("console", lambda m: messages.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
        page.goto(address)
        page.get_by_role("button", name="Recommend").click()
        page.wait_for_selector("#result .card[data-item]")

        cards = page.locator("#result .card[data-item]")
        assert cards.count() == 10
        text = page.locator("#result").inner_text()
        assert HOSTILE in text and "nearest in the history" in text
        assert page.title() == "UniSRec recommends"
        sources = page.locator("#result img").evaluate_all("all => all.map(one => one.src)")
        assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
        assert page.locator("#result .card[data-item='i3'] img").count() == 0  # leads outside
        screenshot = Path(tmp_path, "page.png")
        page.screenshot(path=screenshot, full_page=True)
        assert screenshot.stat().st_size > 10_000

        page.get_by_label("Leave out the items of the history").check()
        page.get_by_label("image", exact=True).uncheck()
        page.get_by_role("button", name="Recommend").click()
        page.wait_for_function("!document.querySelector('#result').innerText.includes('image: ')")
        for _, item in Service(recommender).choices[:2]:  # the history of the page
            assert page.locator(f"#result .card[data-item='{item}']").count() == 0
        browser.close()
    assert messages == []
    assert hosts - {None} == {"127.0.0.1"}


def test_titles_and_pictures_of_a_checkpoint_are_those_of_its_data_set(trained, toy):
    from recbole_mm.recommend.web_page import Service

    folder = Path(toy["data_path"], "toy")
    rows = ["item_id:token\ttitle:token_seq\timage:token"]
    rows += [f"i{n}\tThing {n}\ti{n}.png" for n in range(12)]
    (folder / "toy.item").write_text("\n".join(rows) + "\n")
    Image.new("RGB", (40, 30), "red").save(folder / "i3.png")
    checkpoint = trained("UniSRec").result.checkpoint

    service = Service(Recommender.from_pretrained(checkpoint, device="cpu"))

    assert service.label("i3") == "Thing 3 (i3)"
    assert service.item("thing 3") == "i3"
    assert service.thumbnails["i3"].startswith("data:image/jpeg;base64,")
    assert service.thumbnails["i4"] is None  # named, and not there


def test_a_port_that_is_in_use_is_named(recommender, tmp_path, capsys):
    recommender.export(tmp_path / "bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["serve", str(tmp_path / "bundle"), f"--port={port}"]) == 2

    message = f"cannot listen on 127.0.0.1:{port}: the port is in use, or the address is not of this machine"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.pth"], "no.pth does not exist; give a checkpoint, the folder of a bundle"),
        (["demo", "--pictures=nowhere"], "--pictures: nowhere is not a folder"),
    ],
)
def test_what_cannot_be_served_is_named(arguments, message, capsys):
    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_serve_names_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)

    assert main(["serve", "demo"]) == 2

    assert "serve needs gradio: pip install 'recbole_mm[serve]'" in capsys.readouterr().err
