"""Models by name: those of this package, of RecBole and of the user."""

from functools import cache
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.own_models import (
    VARIABLE,
    OwnModel,
    installed_models,
    own_models,
    parse_own_model,
    remember,
)
from recbole_mm.config.property_files import RECBOLE_DIR, keys_in, properties_dir
from recbole_mm.tools.names import nearest


def _first_lines(path: Path) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return [next(file, "").removeprefix("#").strip() for _ in range(2)]


def _described(folder: str) -> dict[str, str]:
    files = sorted(properties_dir().glob(f"{folder}/*.yaml"))
    return {path.stem: _first_lines(path)[1] for path in files}


MODELS = _described("model")
"""The multi-modal models of this package, by the names of their property files, and their
descriptions, the second lines of these files. The class is
``recbole_mm.model.sequential_recommender.<lower>.<Model>``."""

BASELINES = _described("baseline")
"""The models of this package without training, and their descriptions."""

INSTEAD = {"Pop": "Popularity", "ItemKNN": "HistoryKNN"}
"""RecBole's models that know users instead of histories, and the baselines that replace them."""

OTHER_KINDS = {
    "general": "general", "context_aware": "context-aware", "knowledge_aware": "knowledge-aware",
    "exlib": "external",
}  # fmt: skip
"""RecBole's kinds of models that are not sequential, and their names in messages."""


@cache
def recbole_models(kind: str = "*") -> tuple[str, ...]:
    """Names of RecBole's own models, of one kind (``sequential``, ``general``, ...) or all."""
    modules = RECBOLE_DIR.glob(f"model/{kind}_recommender/[a-z]*.py")
    by_lower = {p.stem.lower(): p.stem for p in RECBOLE_DIR.glob("properties/model/*.yaml")}
    return tuple(sorted(by_lower[m.stem] for m in modules if m.stem in by_lower))


@cache
def admitted_models() -> tuple[str, ...]:
    """RecBole's models that our commands run: its sequential ones.

    This is the only list. A model that is not on it is refused by its name, regardless of the
    source of the name (an option, a yaml file, the configuration in a checkpoint), before its
    module is imported: some of RecBole's other models execute values of their configuration.
    """
    return recbole_models("sequential")


def model_name(model: str) -> str:
    """The name of a model in RecBole. For ``my_module:MyModel``, it is the name of the class, which
    is registered; for a replaced RecBole model (:data:`INSTEAD`), it is the name of our baseline.

    Raises:
        ConfigError: the model does not exist, is not admitted (:func:`admitted_models`), or its
            name is taken.
    """
    if ":" in model:
        own = parse_own_model(model)
        _refuse_taken_name(own)
        remember(own)
        return own.name
    model = INSTEAD.get(model, model)
    if source_of(model) is None and model not in admitted_models():
        raise ConfigError(_not_admitted(model) if model in recbole_models() else _unknown(model))
    return model


def source_of(model: str) -> OwnModel | None:
    """Module and class of a model outside RecBole; ``None`` for RecBole's and unknown models."""
    if model in MODELS or model in BASELINES:
        return OwnModel(f"recbole_mm.model.sequential_recommender.{model.lower()}", model)
    if model in recbole_models():
        return None
    own = own_models().get(model) or installed_models().get(model)
    if own is not None:
        remember(own)
    return own


def known_models() -> str:
    """The models of this package and of the user, and how to add others, for messages."""
    names = ", ".join((*MODELS, *own_models(), *installed_models()))
    return f"{names} (your own model: {VARIABLE}=my_module:MyModel in the environment)"


def needs_item_columns(model: str) -> bool:
    """Whether a model of RecBole reads columns of the ``.item`` file (``selected_features``)."""
    path = RECBOLE_DIR / "properties" / "model" / f"{model}.yaml"
    return path.is_file() and "selected_features" in keys_in(path)


def _refuse_taken_name(own: OwnModel) -> None:
    """Refuse a name that another model has in lower case, by which RecBole looks models up."""
    for model in (*MODELS, *BASELINES, *recbole_models()):
        if model.lower() == own.name.lower():
            raise ConfigError(f"model {str(own)!r}: {model} has the same name; rename the class")


def _not_admitted(model: str) -> str:
    kind = next(words for kind, words in OTHER_KINDS.items() if model in recbole_models(kind))
    return (
        f"model {model!r} is one of RecBole's {kind} models, which are not run here: they know users, "
        f"not histories, or read other data. RecBole's sequential models and the baselines "
        f"{' and '.join(BASELINES)} are run; for {model} use recbole.quick_start.run_recbole"
    )


def _unknown(model: str) -> str:
    known = [*MODELS, *BASELINES, *own_models(), *installed_models()]
    near = nearest(model, [*known, *INSTEAD, *admitted_models()], cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return (
        f"unknown model {model!r}: {hint}The models of this package are {', '.join(MODELS)}; "
        f"baselines without training are {', '.join(BASELINES)}; RecBole's sequential models are "
        f"{', '.join(recbole_models('sequential'))}; your own model is --model=my_module:MyModel"
    )
