"""The page of ``recbole-mm serve``, made with Gradio: a form, and cards of items."""

import html
import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from fastapi import FastAPI

from recbole_mm.recommend.explain import BIAS, Reason
from recbole_mm.recommend.query import Query
from recbole_mm.recommend.request import SOURCES
from recbole_mm.recommend.service import Recommended, Service
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import RunFailed, UserError

MOST_CARDS = 50
PATH = "/"

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


def mount_page(app: FastAPI, service: Service) -> None:
    """Serve the page at :data:`PATH` of an application."""
    gr.mount_gradio_app(
        app,
        page_of(service),
        PATH,
        footer_links=[],
        allowed_paths=[],
        show_error=False,
        max_file_size="1kb",  # nothing is uploaded
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=STYLE,
    )


def page_of(service: Service) -> gr.Blocks:
    """The page."""
    data = service.recommender.facts.get("data", {}).get("name", "")
    heading = f"# {service.model_name}{f' on {data}' if data else ''}\n"
    heading += f"{counted(len(service.titles), 'item', 'items')}."
    if service.recommender.model.use_time:
        heading += (
            "\nThe model reads times; histories on this page have none, so every interval counts as 0 "
            "days (over HTTP: `times`)."
        )

    def show(history, k, modalities, filter_seen) -> str:
        try:
            query = Query(history, int(k), modalities, filter_seen, strict=True)
            answer = service.answer(query)
        except (UserError, RunFailed) as error:  # in place of an earlier result
            return f'<p role="alert">{html.escape(str(error))}</p>'
        found = [item for text in history or () if (item := service.find(text))]
        return _history(service, found) + _cards(service, answer)

    with gr.Blocks(analytics_enabled=False, title=f"{service.model_name} recommends") as page:
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
            most = min(MOST_CARDS, service.n_offered)
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
    return page


def _history(service: Service, items: list[str]) -> str:
    if not items:
        return ""
    cards = "".join(f'<div class="card">{_picture(service, item)}</div>' for item in items)
    return f'<h3>History</h3><div class="cards">{cards}</div>'


def _cards(service: Service, answer: Recommended) -> str:
    reasons = answer.recommended
    seen = {name for reason in reasons for name in reason.parts}
    order = dict.fromkeys([*service.modalities, *(n for r in reasons for n in r.parts)])
    names = [name for name in order if name in seen]
    colors = dict(zip(names, COLORS * (1 + len(names) // len(COLORS)), strict=False))
    legend = "".join(
        f'<span><b style="color:{color}">&#9632;</b> {html.escape(name)}</span>'
        for name, color in colors.items()
    )
    cards = f'<div class="cards">{"".join(_card(service, each, colors) for each in reasons)}</div>'
    if any(reason.source == SOURCES[1] for reason in reasons):
        return f"<h3>The most popular items, as the history is empty</h3>{cards}"
    about = f'<p class="legend">Share of the score: {legend}</p>{_about_bias(names)}'
    return f"<h3>Recommended</h3>{about}{cards}"


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
