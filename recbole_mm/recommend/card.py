"""The model card of a bundle, README.md in the layout of the Hugging Face hub."""

from pathlib import PurePath

from huggingface_hub import EvalResult, ModelCardData

from recbole_mm.config.models import MODELS
from recbole_mm.recommend.card_of_data import terms_of_data
from recbole_mm.tools.counts import counted

TASK = "sequential-recommendation"

PAPERS = {
    "MMM4Rec": "https://arxiv.org/abs/2506.02916",
    "MISSRec": "https://arxiv.org/abs/2308.11175",
    "HSTU": "https://arxiv.org/abs/2402.17152",
    "UniSRec": "https://arxiv.org/abs/2206.05941",
}


def model_card(described: dict, n_items: int) -> str:
    """The card of a bundle.

    Args:
        described: content of its ``config.json``.
        n_items: number of items that it ranks.
    """
    parts = [
        _title(described),
        _use(described, n_items),
        _data(described, n_items),
        terms_of_data(described["facts"].get("training_data", [])),
        _metrics(described),
        _features(described),
        _contents(),
    ]
    body = "\n\n".join(part for part in parts if part)
    return f"---\n{_metadata(described)}\n---\n\n{body}\n"


def _metadata(described: dict) -> str:
    data = described["facts"].get("data", {})
    name = data.get("name", "unknown")
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=name,
            dataset_name=name,
            dataset_split="test",
            metric_type=metric.lower(),
            metric_name=metric,
            metric_value=round(values["value"], 6),
        )
        for metric, values in described["facts"].get("test", {}).items()
    ]
    return ModelCardData(
        library_name="recbole_mm",
        model_name=f"{described['model']}-{name}",
        tags=["recommendation", TASK, "multimodal", described["model"].lower()],
        eval_results=results or None,
    ).to_yaml()


def _title(described: dict) -> str:
    model, with_id = described["model"], described["config"].get("use_item_id")
    paper = f" Paper: {PAPERS[model]}." if model in PAPERS else ""
    ids = "features and learned IDs" if with_id else "features alone"
    description = f"{MODELS[model]} " if model in MODELS else ""
    return (
        f"# {model}\n\n{description}A sequential recommender, trained with recbole_mm "
        f"{described['recbole_mm']}. It represents its items by {ids}.{paper}"
    )


def _use(described: dict, n_items: int) -> str:
    k = min(10, n_items)
    return f"""## How to use

With recbole_mm installed, as described in its README:

```
recbole-mm recommend --model=THIS_FOLDER --histories=today.csv --k={k} --output=top.csv
```

```python
from recbole_mm.recommend.recommender import Recommender

recommender = Recommender.from_pretrained("THIS_FOLDER")  # or the name of its repository on the hub
table = recommender.recommend("today.csv", k={k})
```

`today.csv` has one event per row: `user`, `item` and, optionally, `timestamp`. The items have the ids of
`items.json`. The folder is also a valid `pre_model_path` to train {described["model"]} on other data."""


def _data(described: dict, n_items: int) -> str:
    data = described["facts"].get("data")
    if not data:
        return f"## Data\n\nThe model ranks {counted(n_items, 'item', 'items')}."
    counts = (
        f"`{data['name']}`: {counted(data['users'], 'user', 'users')}, "
        f"{counted(data['items'], 'item', 'items')}, "
        f"{counted(data['interactions'], 'interaction', 'interactions')}. "
        f"The model ranks {counted(n_items, 'item', 'items')}."
    )
    protocol = described["facts"].get("protocol", {})
    rules = ", ".join(f"{key} `{value}`" for key, value in protocol.items())
    return (
        f"## Data\n\n{counts}\n\n## Protocol\n\nRecBole's `eval_args`: {rules}. Every item is a candidate, "
        f"and seen items are not masked."
    )


def _metrics(described: dict) -> str:
    facts = described["facts"]
    rows = [
        f"| test | {metric} | {values['value']:.4f} | {_span(values)} |"
        for metric, values in facts.get("test", {}).items()
    ]
    rows += [
        f"| validation | {metric.upper()} | {value:.4f} | |"
        for metric, value in facts.get("validation", {}).items()
    ]
    table = "\n".join(["| targets | metric | value | 95% interval |", "|---|---|---|---|", *rows])
    paragraphs = ["## Metrics", *([table] if rows else []), _about_test(facts.get("test"))]
    return "\n\n".join(paragraphs)


def _about_test(test: dict | None) -> str:
    """What the metrics of the test are.

    Args:
        test: metrics, empty without test targets; ``None``: not tested.
    """
    if test:
        return (
            "Intervals are bootstrapped over the test users of this trained model; they do not include "
            "the variance between seeds."
        )
    if test is None:
        return "This model has not been tested."
    return "This model has not been tested: the split of its training has no test targets."


def _span(values: dict) -> str:
    if values.get("low") is None:
        return ""
    return f"{values['low']:.4f} to {values['high']:.4f}"


def _features(described: dict) -> str:
    lines = []
    for modality in described["config"]["modalities"]:
        info = described["features"].get(modality, {})
        encoder, revision = _shown_name(info.get("encoder")), info.get("revision", "unknown")
        width = info.get("dimension", "unknown")
        pooling, scale = info.get("pooling", "-"), info.get("normalization", "unknown")
        prompt = f"`{info['prompt']!r}`" if info.get("prompt") else "-"
        cells = (modality, encoder, revision, width, pooling, scale, prompt)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    heads = ("modality", "encoder", "revision", "width", "pooling", "normalization", "prompt")
    table = "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines])
    return f"## Features of the items\n\n{table}"


def _shown_name(encoder) -> str:
    """The name of an encoder; for a folder on this machine, its last part."""
    name = str(encoder or "unknown")
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _contents() -> str:
    return """## Files

`model.safetensors` (parameters), `config.json` (everything to rebuild the model), `items.safetensors`
(features as float16, which items have them, training interactions), `items.json` (ids, titles and names of
pictures of the items), `manifest.json` (format version and SHA-256 of these). Nothing in them is executed. They contain no users or
histories."""
