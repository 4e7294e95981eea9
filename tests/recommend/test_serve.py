"""The page and the HTTP interface of recbole-mm serve, by a real client and a real browser."""

import hashlib
import json
import re
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
from recbole_mm.recommend.listening import bound_socket, url_of
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
    from recbole_mm.recommend.service import Service
    from recbole_mm.recommend.web_app import app_of, serving

    service = Service(recommender, pictures)
    with serving(app_of(service), bound_socket("127.0.0.1", 0)) as url:
        yield url.rstrip("/")


def ask(address, **query):
    """Status and content of the answer of ``/recommend``."""
    answer = requests.post(f"{address}/recommend", json=query, timeout=20)
    return answer.status_code, answer.json()


def test_an_answer_over_http_is_what_the_recommender_recommends_and_why(address, recommender):
    history, times = ["i1", "i2", "i5"], [3.0, 1.0, 2.0]
    frame = pl.DataFrame({"user": ["u"], "items": [history], "timestamps": [times]})
    offered, unwanted = [f"i{n}" for n in range(2, 10)], ["i6", "i7"]
    some = {"items": offered, "exclude": unwanted, "filter_seen": True}
    expected = recommender.recommend(frame, k=4, **some)

    status, answer = ask(address, history=history, times=times, k=4, **some)
    _, by_title = ask(address, history=["thing 1", "i2", " Thing 5 "], times=times, k=4, **some)
    _, by_text = ask(address, history=history, modalities=["text"])

    assert status == 200 and answer["unknown"] == []
    rows = answer["recommended"]
    assert [row["item"] for row in rows] == expected["item"].to_list()
    scores = [row["score"] for row in rows]
    assert scores == pytest.approx(expected["score"].to_list(), rel=1e-4)
    assert by_title == answer
    assert [row["title"] for row in rows] == [
        HOSTILE if row["item"] == "i4" else f"Thing {row['item'][1:]}" for row in rows
    ]
    assert {row["source"] for row in rows} == {"model"}
    assert set(rows[0]["parts"]) == {"text", "image", "id"}
    assert set(rows[0]["nearest"]) == {"text", "image"}
    assert set(by_text["recommended"][0]["nearest"]) == {"text"}
    assert len(by_text["recommended"]) == 10


def test_unknown_items_of_a_history_are_skipped_with_their_times_and_listed(address):
    times = {"times": [3.0, 1.0, 2.0]}

    _, answer = ask(address, history=["i1", 404, "i2"], **times)

    _, expected = ask(address, history=["i1", "i2"], times=[3.0, 2.0])
    assert answer == {**expected, "unknown": ["404"]}
    status, refusal = ask(address, history=["i1", "thing_2"], strict=True)
    assert (status, refusal) == (400, {"error": "no item 'thing_2' in the catalog."})


@pytest.mark.parametrize("history", [None, [], ["nothing"]])
def test_without_a_known_item_the_most_popular_ones_are_recommended(history, address, recommender):
    frame = pl.DataFrame({"user": ["u", "v"], "items": [["nothing"], ["i1"]]})
    expected = recommender.recommend(frame, k=3).filter(user="u")

    status, answer = ask(address, history=history, k=3)

    rows = answer["recommended"]
    assert status == 200 and answer["unknown"] == (history or [])
    assert [row["item"] for row in rows] == expected["item"].to_list()
    assert [row["score"] for row in rows] == expected["score"].to_list()
    assert {row["source"] for row in rows} == {"popular"}
    assert all(row["parts"] == row["nearest"] == {} for row in rows)


def test_the_server_reports_that_it_is_healthy(address):
    answer = requests.get(f"{address}/health", timeout=20)

    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "model": "UniSRec", "items": 12}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"k": 1001}, "k: give a whole number from 1 to 1000"),
        ({"k": 2.5}, "k: give a whole number from 1 to 1000"),
        ({"k": True}, "k: give a whole number"),
        ({"k": "x"}, "k: give a whole number"),
        ({"history": "i1"}, "history: give a list of at most 1000 items"),
        ({"history": [{"a": 1}]}, "history: give a list"),
        ({"history": ["i1"] * 1001}, "history: give a list of at most 1000 items"),
        ({"modalities": ["sound"]}, "no modality 'sound'"),
        ({"filter_seen": "no"}, "filter_seen: give true or false"),
        ({"times": ["noon"]}, "times: give a list of unix seconds"),
        ({"times": [float("nan")]}, "times: give a list of unix seconds"),
        ({"times": [1.0, 2.0]}, "1 item, but 2 times: each event needs both"),
        (
            {"items": ["i1", "ghost"], "strict": True},
            "items: not in the catalog of 12 items: 1 of 2, e.g. ['ghost']",
        ),
        ({"items": ["ghost"]}, "items: none of them is in the catalog; name at least one item of it"),
        ({"history": ["\ud800"]}, "the request has characters that do not exist (surrogates not allowed)"),
        (
            {"history": ["i1"], "times": [1.7e12]},
            "times: give a list of unix seconds from 1970 to 2100, one for each item of the history",
        ),
        ({"exclude": "i1"}, "exclude: give a list of ids"),
        ({"exlude": ["i1"]}, "unknown key 'exlude' (did you mean 'exclude'?)"),
    ],
)  # fmt: skip
def test_a_query_that_cannot_be_answered_gets_a_message(query, message, address, capfd):
    content = json.dumps({"history": ["i1"], **query})  # requests refuses NaN

    answer = requests.post(f"{address}/recommend", data=content, timeout=20)

    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "the request is not JSON ("),
        (b"{", 400, "the request is not JSON ("),
        (b"\xff", 400, "the request is not JSON ("),
        (b"[" * 100_000, 400, "the request is not JSON ("),
        (b"[]", 400, "give a JSON object with some of the keys history, k, "),
        (b" " * 4_000_001, 413, "the request is larger than 4,000,000 bytes"),
    ],
)
def test_a_request_that_is_no_query_gets_a_message(content, status, message, address, capfd):
    answer = requests.post(f"{address}/recommend", data=content, timeout=20)

    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert "".join(capfd.readouterr()) == ""


def test_a_failure_of_the_model_is_an_answer_too(address, recommender):
    def user_vectors(*_):
        raise RuntimeError("of the model")

    for parameter in recommender.model.parameters():
        parameter.data.fill_(float("nan"))
    status, answer = ask(address, history=["i1"])
    assert status == 500 and "are not numbers" in answer["error"]

    recommender.model.user_vectors = user_vectors
    status, answer = ask(address, history=["i1"])
    expected = "the server has failed; its console has the reason"
    assert (status, answer) == (500, {"error": expected})


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
    from recbole_mm.recommend.service import Service

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

        page.get_by_role("combobox").fill("nobody")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Recommend").click()
        page.wait_for_selector("#result [role=alert]")
        assert "no item 'nobody' in the catalog" in page.locator("#result").inner_text()
        assert cards.count() == 0
        page.get_by_role("combobox").press("Backspace")
        page.keyboard.press("Escape")

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
    from recbole_mm.recommend.service import Service

    folder = Path(toy["data_path"], "toy")
    rows = ["item_id:token\ttitle:token_seq\timage:token"]
    rows += [f"i{n}\tThing {n}\ti{n}.png" for n in range(12)]
    (folder / "toy.item").write_text("\n".join(rows) + "\n")
    Image.new("RGB", (40, 30), "red").save(folder / "i3.png")
    checkpoint = trained("UniSRec").result.checkpoint

    service = Service(Recommender.from_pretrained(checkpoint, device="cpu"))

    assert service.label("i3") == "Thing 3 (i3)"
    assert service.find("thing 3") == "i3"
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
    from recbole_mm.recommend.service import Service
    from recbole_mm.recommend.web_page import page_of

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


def test_an_error_and_an_empty_history_replace_what_the_page_shows(recommender):
    from recbole_mm.recommend.service import Service
    from recbole_mm.recommend.web_page import page_of

    (show,) = (each.fn for each in page_of(Service(recommender)).fns.values() if each.fn)

    error = show(["i1", "<b>"], 3, ["text"], False)
    assert error == '<p role="alert">no item &#x27;&lt;b&gt;&#x27; in the catalog.</p>'
    popular = show([], 3.0, ["text"], False)
    assert popular.startswith("<h3>The most popular items, as the history is empty</h3>")
    assert popular.count("data-item=") == 3
    assert show(["i1"], 3, ["text"], False).startswith("<h3>History</h3>")


def test_ctrl_c_ends_the_command_as_it_ends_others(recommender, tmp_path, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    recommender.export(tmp_path / "bundle")
    monkeypatch.setattr("recbole_mm.recommend.web_app.wait", interrupt)

    assert main(["serve", str(tmp_path / "bundle"), "--port=0"]) == 130

    captured = capsys.readouterr()
    address = re.fullmatch(r"(http://127.0.0.1:\d+/) \(end with Ctrl-C\)\n", captured.out)[1]
    assert captured.err == "recbole-mm: error: interrupted\n"
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=20)


def test_the_demo_trains_without_its_log_on_the_console(monkeypatch, capfd):
    from recbole_mm.recommend.serve import demo_checkpoint

    def shorter(model, dataset, overrides):
        return run(model, dataset, overrides={**overrides, "epochs": 1})

    monkeypatch.setattr("recbole_mm.run.run.run", shorter)

    assert demo_checkpoint().is_file()

    captured = capfd.readouterr()
    assert captured.out.count("\n") == 1 and captured.out.startswith("Training a UniSRec on ")
    assert captured.err == ""


def test_a_port_that_is_in_use_is_named(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert main(["serve", "demo", f"--port={port}"]) == 2

    message = f"cannot listen on 127.0.0.1:{port}: the port is in use; give another --port\n"
    assert capfd.readouterr().err == f"recbole-mm: error: {message}"


@pytest.mark.parametrize("port", [-1, 65_536, 99_999])
def test_a_port_is_a_number_of_16_bits(port, capsys):
    assert main(["serve", "demo", f"--port={port}"]) == 2

    expected = f"--port={port}: give a number from 1 to 65535, or 0 for any free port\n"
    assert capsys.readouterr().err == f"recbole-mm: error: {expected}"


@pytest.mark.parametrize(
    "host", ["192.0.2.7", "no-such-host.invalid", "a" * 70, "..", "2001:db8::1"]
)
def test_a_host_that_is_not_this_machine_is_named(host, capfd):
    assert main(["serve", "demo", f"--host={host}"]) == 2

    reason = "the address does not belong to this machine; give another --host\n"
    expected = f"recbole-mm: error: cannot listen on {host}:7860: {reason}"
    assert capfd.readouterr().err == expected


@pytest.mark.parametrize(("host", "name"), [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1")])
def test_an_address_is_one_that_a_browser_opens(host, name):
    with bound_socket(host, 0) as bound:
        assert url_of(bound) == f"http://{name}:{bound.getsockname()[1]}/"


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
