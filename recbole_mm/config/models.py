"""Models by name: ours and RecBole's."""

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import RECBOLE_DIR, keys_in, properties_dir
from recbole_mm.tools.names import nearest

MODELS = {
    "MMM4Rec": "state-space model over fused text and picture features (arXiv 2506.02916)",
    "MISSRec": "interest-aware transformer over text and picture features (arXiv 2308.11175)",
    "UniSRec": "transformer over features through whitening experts (arXiv 2206.05941)",
}
"""Every model of this package and what it is; its class is
``recbole_mm.model.sequential_recommender.<lower>.<Model>``."""


def recbole_models(kind: str = "*") -> list[str]:
    """Names of RecBole's own models, of one kind (``sequential``, ``general``, ...) or all."""
    modules = RECBOLE_DIR.glob(f"model/{kind}_recommender/[a-z]*.py")
    by_lower = {p.stem.lower(): p.stem for p in RECBOLE_DIR.glob("properties/model/*.yaml")}
    return sorted(by_lower[m.stem] for m in modules if m.stem in by_lower)


def needs_item_columns(model: str) -> bool:
    """Whether a model of RecBole reads columns of the ``.item`` file (``selected_features``)."""
    path = RECBOLE_DIR / "properties" / "model" / f"{model}.yaml"
    return path.is_file() and "selected_features" in keys_in(path)


def refuse_unknown_model(model: str) -> None:
    ours = sorted(path.stem for path in (properties_dir() / "model").glob("*.yaml"))
    if model in ours or model in recbole_models():
        return
    near = nearest(model, [*ours, *recbole_models()], cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown model {model!r}: {hint}Ours are {', '.join(ours)}; RecBole's sequential models "
        f"are {', '.join(recbole_models('sequential'))}"
    )
