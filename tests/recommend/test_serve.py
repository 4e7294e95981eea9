"""The page and the HTTP interface of recbole-mm serve, by a real client and a real browser."""

import hashlib
import json
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlparse

import polars as pl
import pytest
import requests
from PIL import Image

from recbole_mm.cli import main
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.thumbnails import Thumbnails
from recbole_mm.run.run import run
from recbole_mm.tools.errors import UserError

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
        ([["i1"], 3, None, False, [1.0, 2.0]], "1 item, but 2 times"),
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

        page.get_by_label("Exclude the items of the history").check()
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


@pytest.fixture
def named_bundle(trained, toy, tmp_path):
    """A bundle whose data set names pictures: i3 of i3, i4 outside, i5 like item i6."""
    folder = Path(toy["data_path"], "toy")
    names = {"i3": "images/red/a.png", "i4": "../secret.png", "i5": "images/i6.png"}
    rows = [f"i{n}\tThing {n}\t{names.get(f'i{n}', '')}" for n in range(12)]
    header = "item_id:token\ttitle:token_seq\timage:token"
    (folder / "toy.item").write_text("\n".join([header, *rows]) + "\n")
    checkpoint = trained("UniSRec").result.checkpoint
    Recommender.from_pretrained(checkpoint, device="cpu").export(tmp_path / "named")
    return tmp_path / "named"


@pytest.mark.parametrize("start", ["images", "."])
def test_a_bundle_finds_pictures_by_the_names_of_its_data_set_and_by_item(
    start, named_bundle, tmp_path
):
    shop = tmp_path / "shop"
    (shop / "images" / "red").mkdir(parents=True)
    for name in ("images/red/a.png", "images/i6.png", "images/i7.png", "i7.png", "../secret.png"):
        Image.new("RGB", (40, 30), "red").save(shop / name)

    recommender = Recommender.from_pretrained(named_bundle, device="cpu")
    thumbnails = Thumbnails(recommender, shop / start)

    of_item = shop / start / "i7.png"
    expected = {"i3": shop / "images/red/a.png", "i5": shop / "images/i6.png", "i7": of_item}
    assert thumbnails.paths == {item: str(path.resolve()) for item, path in expected.items()}
    assert thumbnails["i3"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "images/../../secret.png"])
def test_a_name_of_a_bundle_leads_to_no_file_outside_the_folder(name, named_bundle, tmp_path):
    items = json.loads((named_bundle / "items.json").read_text())
    items["image"] = [None if image is None else name for image in items["image"]]
    (named_bundle / "items.json").write_text(json.dumps(items))
    manifest = json.loads((named_bundle / "manifest.json").read_text())
    content = (named_bundle / "items.json").read_bytes()
    known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["items.json"] = known
    (named_bundle / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "secret.png")

    recommender = Recommender.from_pretrained(named_bundle, device="cpu")

    with pytest.raises(UserError, match="no picture of an item"):
        Thumbnails(recommender, tmp_path / "pictures")


def test_a_folder_without_pictures_of_the_items_is_named(named_bundle, tmp_path, capsys):
    (tmp_path / "empty").mkdir()

    assert main(["serve", str(named_bundle), f"--pictures={tmp_path / 'empty'}"]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'empty'}: no picture of an item. One is named after its item, " in error
    assert ", or as in the data set, images/" in error
    opened = Recommender.from_pretrained(named_bundle, device="cpu")._opened
    older = opened._replace(catalog=opened.catalog._replace(picture_names=None))
    with pytest.raises(UserError, match="The names of the data set are not known here"):
        Thumbnails(Recommender(older), tmp_path / "empty")


def test_a_card_tells_what_its_item_lacks_and_what_bias_is(trained):
    from recbole_mm.recommend.web_page import Service, page_of

    checkpoint = trained("MMM4Rec", use_item_id=True).result.checkpoint
    recommender = Recommender.from_pretrained(checkpoint, device="cpu")
    recommender.model.present("text")[1 + 5] = False  # i5
    page = page_of(Service(recommender))
    (show,) = (each.fn for each in page.fns.values() if each.name == "show")

    def card(item, modalities):
        text = show(["i1", "i2"], 12, modalities, False)
        return text, text.partition(f'data-item="{item}"')[2].partition("data-item")[0]

    text, own = card("i5", ["text", "image"])
    assert ", no text</div>" in own and "bias " in own and "text +" not in own
    assert text.count("no text") == 1
    assert text.count("bias: what the model adds in place of a modality that an item lacks") == 1
    assert "nearest in the history" in own
    text, _ = card("i5", [])
    assert "no text" not in text and "nearest in the history" not in text


def test_ctrl_c_ends_the_command_as_it_ends_others(recommender, tmp_path, monkeypatch, capsys):
    def interrupt(_):
        raise KeyboardInterrupt

    recommender.export(tmp_path / "bundle")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr("recbole_mm.recommend.web_page.time", SimpleNamespace(sleep=interrupt))

    assert main(["serve", str(tmp_path / "bundle"), f"--port={port}"]) == 130

    captured = capsys.readouterr()
    assert captured.out == f"http://127.0.0.1:{port}/ (end with Ctrl-C)\n"
    assert "interrupted" in captured.err


def test_the_demo_trains_without_its_log_on_the_console(monkeypatch, capfd):
    from recbole_mm.recommend.serve import demo_checkpoint

    def shorter(model, dataset, overrides):
        return run(model, dataset, overrides={**overrides, "epochs": 1})

    monkeypatch.setattr("recbole_mm.run.run.run", shorter)

    assert demo_checkpoint().is_file()

    captured = capfd.readouterr()
    assert captured.out.count("\n") == 1 and captured.out.startswith("Training a UniSRec on ")
    assert captured.err == ""


def test_a_port_that_is_in_use_is_named(recommender, tmp_path, capsys):
    recommender.export(tmp_path / "bundle")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["serve", str(tmp_path / "bundle"), f"--port={port}"]) == 2

    message = f"cannot listen on 127.0.0.1:{port}: the port is in use, or the address does not belong to this machine"
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
