"""The page of ``recbole-mm serve``, made with Gradio: a form, cards, and the same over HTTP."""

import html
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from recbole_mm.recommend.catalog import CatalogError
from recbole_mm.recommend.explain import BIAS, Reason, explain, with_modalities
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.thumbnails import Thumbnails
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.names import nearest

CHOICES = 1000
"""Number of items that can be chosen from a list; others are typed."""
MOST_ITEMS = 50
LONGEST_HISTORY = 1000

STYLE = """
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px }
.card { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px; font-size: 13px;
  overflow-wrap: anywhere }
.card img, .card .none { width: 100%; height: 120px; object-fit: contain }
.card .none { display: grid; place-items: center; background: var(--background-fill-secondary); opacity: 0.6 }
.card .title { font-weight: 600; margin: 6px 0 2px }
.card .bar { display: flex; height: 8px; border-radius: 4px; overflow: hidden; margin: 4px 0 }
.card .quiet { opacity: 0.7 }
.legend span { display: inline-block; margin-right: 14px }
"""
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2")


class Service:
    """What the page and the HTTP interface do.

    Args:
        recommender: trained model with its items.
        pictures: folder of pictures; see :class:`~recbole_mm.recommend.thumbnails.Thumbnails`.
    """

    def __init__(self, recommender: Recommender, pictures: Path | None = None):
        self.recommender = recommender.with_titles()
        self.thumbnails = Thumbnails(recommender, pictures)
        catalog = self.recommender.catalog
        tokens = catalog.tokens.to_list()
        titles = [None] * len(tokens) if catalog.titles is None else catalog.titles.to_list()
        self.titles = dict(zip(tokens[1:], titles[1:], strict=True))
        self.by_title = {title.casefold(): t for t, title in self.titles.items() if title}
        self.modalities = list(recommender.model.modalities)
        self.n_offered = int(catalog.offered[1:].sum())
        popular = catalog.counts[1:].argsort(descending=True, stable=True)[:CHOICES]
        self.choices = [(self.label(tokens[int(i) + 1]), tokens[int(i) + 1]) for i in popular]
        self._of_some: tuple[tuple[str, ...], Recommender] = (
            tuple(self.modalities),
            self.recommender,
        )

    def label(self, item: str) -> str:
        """The name of an item on the page."""
        title = self.titles.get(item)
        return f"{title} ({item})" if title else item

    def item(self, text) -> str:
        """The item that a text names by its ID or its title.

        Raises:
            CatalogError: there is no such item.
        """
        text = text.strip() if isinstance(text, str) else str(text)
        if text in self.titles:
            return text
        if text.casefold() in self.by_title:
            return self.by_title[text.casefold()]
        near = nearest(text, [token for _, token in self.choices])
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CatalogError(f"no item {text[:60]!r} in the catalog.{hint}")

    def reasons(self, history, k, modalities, filter_seen=False, times=None) -> list[Reason]:
        """The best items with reasons, for unchecked arguments.

        Raises:
            UserError: an argument cannot be used.
        """
        if not isinstance(history, list) or len(history) > LONGEST_HISTORY:
            raise UserError(f"history: give a list of at most {LONGEST_HISTORY} items")
        most = min(MOST_ITEMS, self.n_offered)
        if isinstance(k, bool) or not isinstance(k, (int, float)) or not 1 <= k <= most:
            raise UserError(f"k: give a number from 1 to {most}")
        names = self.modalities if modalities is None else modalities
        if not isinstance(names, list):
            raise UserError(f"modalities: give a list of {self.modalities}")
        if not isinstance(filter_seen, bool):
            raise UserError("filter_seen: give true or false")
        if times is not None and not _are_numbers(times):
            raise UserError("times: give a list of unix seconds, one for each item of the history")
        items = [self.item(text) for text in history]
        return explain(self._with(tuple(map(str, names))), items, int(k), filter_seen, times)

    def _with(self, modalities: tuple[str, ...]) -> Recommender:
        known, recommender = self._of_some
        if known != modalities:
            recommender = with_modalities(self.recommender, modalities)
            self._of_some = modalities, recommender
        return recommender


class _Page(gr.Blocks):
    """A page whose HTTP interface gives omitted arguments their defaults."""

    def validate_inputs(self, block_fn, inputs: list) -> None:
        inputs.extend(block.value for block in block_fn.inputs[len(inputs) :])


def page_of(service: Service) -> gr.Blocks:
    """The page with its HTTP interface ``/recommend``."""
    model = type(service.recommender.model).__name__
    data = service.recommender.facts.get("data", {}).get("name", "")
    heading = f"# {model}{f' on {data}' if data else ''}\n{counted(len(service.titles), 'item', 'items')}."
    if service.recommender.model.use_time:
        heading += (
            "\nThe model reads times; histories on this page have none, so every interval counts as 0 "
            "days (over HTTP: `times`)."
        )

    def recommend(
        history: list[str] | None = None,
        k: int = 10,
        modalities: list[str] | None = None,
        filter_seen: bool = False,
        times: list[float] | None = None,
    ) -> list[dict[str, Any]]:
        try:
            reasons = service.reasons(history, k, modalities, filter_seen, times)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return [
            {**reason._asdict(), "nearest": {m: n._asdict() for m, n in reason.nearest.items()}}
            for reason in reasons
        ]

    def show(history, k, modalities, filter_seen) -> str:
        try:
            reasons = service.reasons(history or [], k, modalities, filter_seen)
        except UserError as error:  # the page shows it as HTML
            raise gr.Error(html.escape(str(error)), print_exception=False) from error
        items = [service.item(text) for text in history]
        return _history(service, items) + _cards(service, reasons)

    with _Page(analytics_enabled=False, title=f"{model} recommends") as page:
        gr.Markdown(heading)
        history = gr.Dropdown(
            service.choices,
            value=[token for _, token in service.choices[:2]],
            multiselect=True,
            allow_custom_value=True,
            label="History, the latest item last: choose items, or type their IDs or titles",
            elem_id="history",
        )
        with gr.Row():
            most = min(MOST_ITEMS, service.n_offered)
            k = gr.Slider(1, most, value=min(10, most), step=1, label="Number of items")
            modalities = gr.CheckboxGroup(
                service.modalities,
                value=service.modalities,
                label="Modalities",
                elem_id="modalities",
            )
            filter_seen = gr.Checkbox(
                label="Exclude the items of the history", elem_id="filter_seen"
            )
        button = gr.Button("Recommend", variant="primary", elem_id="recommend")
        result = gr.HTML(elem_id="result")
        button.click(show, [history, k, modalities, filter_seen], result, api_visibility="private")
        gr.api(recommend, api_name="recommend")
    return page


def serve(recommender: Recommender, host: str, port: int, pictures: Path | None = None) -> None:
    """Serve the page until the process is interrupted.

    Raises:
        UserError: the port is in use, or the folder of pictures has none for any item.
    """
    page = page_of(Service(recommender, pictures))
    _, address, _ = launch(page, host, port)
    print(f"{address} (end with Ctrl-C)", flush=True)
    try:
        while True:
            time.sleep(1)
    finally:
        page.close(verbose=False)


def launch(page: gr.Blocks, host: str, port: int):
    """Start the server in a thread, and return the result of Gradio's ``launch``.

    Raises:
        UserError: the port is in use.
    """
    try:
        return page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            enable_monitoring=False,
            allowed_paths=[],
            max_file_size="1kb",  # nothing is uploaded
            footer_links=["api"],
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=STYLE,
        )
    except OSError as error:
        reason = (
            error.strerror or "the port is in use, or the address does not belong to this machine"
        )
        raise UserError(f"cannot listen on {host}:{port}: {reason}; give another --port") from error


def _are_numbers(values) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        for value in values
    )


def _history(service: Service, items: list[str]) -> str:
    cards = "".join(f'<div class="card">{_picture(service, item)}</div>' for item in items)
    return f'<h3>History</h3><div class="cards">{cards}</div>'


def _cards(service: Service, reasons: list[Reason]) -> str:
    seen = {name for reason in reasons for name in reason.parts}
    order = dict.fromkeys([*service.modalities, *(n for r in reasons for n in r.parts)])
    names = [name for name in order if name in seen]
    colors = dict(zip(names, COLORS * (1 + len(names) // len(COLORS)), strict=False))
    legend = "".join(
        f'<span><b style="color:{color}">&#9632;</b> {html.escape(name)}</span>'
        for name, color in colors.items()
    )
    cards = "".join(_card(service, reason, colors) for reason in reasons)
    return (
        f'<h3>Recommended</h3><p class="legend">Share of the score: {legend}</p>{_about_bias(names)}'
        f'<div class="cards">{cards}</div>'
    )


def _about_bias(names: list[str]) -> str:
    if BIAS not in names:
        return ""
    return (
        f'<p class="legend">{BIAS}: what the model adds in place of a modality that an item lacks '
        f"or that is switched off; it says nothing about the item.</p>"
    )


def _card(service: Service, reason: Reason, colors: dict[str, str]) -> str:
    bar = "".join(
        f'<div style="width:{100 * share:.1f}%;background:{colors[name]}"></div>'
        for name, share in reason.shares.items()
    )
    parts = [f"{name} {part:+.3f}" for name, part in reason.parts.items()]
    parts += [f"no {modality}" for modality in reason.lacks]
    near = "".join(
        f"<div>{html.escape(modality)}: {html.escape(service.label(found.item))} "
        f"<span class='quiet'>{found.cosine:.2f}</span></div>"
        for modality, found in reason.nearest.items()
    )
    if near:
        near = f'<div class="quiet">nearest in the history</div>{near}'
    return (
        f'<div class="card" data-item="{html.escape(reason.item)}">{_picture(service, reason.item)}'
        f'<div>score {reason.score:.3f}</div><div class="bar">{bar}</div>'
        f'<div class="quiet">{html.escape(", ".join(parts))}</div>{near}</div>'
    )


def _picture(service: Service, item: str) -> str:
    address = service.thumbnails[item]
    image = f'<img src="{address}" alt="">' if address else '<div class="none">no picture</div>'
    if not service.thumbnails.paths:
        image = ""
    title = service.titles.get(item) or ""
    return (
        f'{image}<div class="title">{html.escape(title or item)}</div>'
        f'<div class="quiet">{html.escape(item) if title else ""}</div>'
    )
