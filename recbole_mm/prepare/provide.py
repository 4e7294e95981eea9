"""``--download``: create the data sets that a command lacks before it runs."""

import argparse
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.data.cards import read_card
from recbole_mm.prepare.catalog import (
    Lacking,
    LackingData,
    how_to_create,
    lacking_datasets,
    needed_datasets,
    require_dataset,
)
from recbole_mm.prepare.mirrors import LAYOUTS, SHIPPED, Mirrors
from recbole_mm.prepare.recipe import Recipe, command_for
from recbole_mm.tools.command_lines import path_argument, shell_line
from recbole_mm.tools.variables import is_one_of_several

MODALITIES = ("text", "image")


def add_download_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--download`` and its related options."""
    options = parser.add_argument_group("Amazon data sets that do not exist yet")
    options.add_argument(
        "--download",
        action="store_true",
        help="create them: reviews, metadata, pictures, features; the same command resumes",
    )
    options.add_argument("--encoder", help="encoder of texts and pictures [embedded: no weights]")
    options.add_argument(
        "--layout", type=int, choices=LAYOUTS, help="year of the collection [2018; Toys 2014]"
    )
    options.add_argument(
        "--mirrors", type=path_argument, metavar="FILE", help=f"file of addresses [{SHIPPED}]"
    )


def provide_datasets(
    settings: list[dict], options, check: Callable[[], object] | None = None
) -> list[str]:
    """Make sure that the data sets of a command exist.

    Without ``--download`` they must exist, or the user is asked whether to create them, if standard
    input and error are terminals.

    Args:
        settings: settings from :func:`recbole_mm.config.data_settings.data_settings`.
        options: options from a parser with :func:`add_download_options`.
        check: function that refuses a configuration that cannot run, before a long download.

    Returns:
        lines about what was not available.

    Raises:
        LackingData: a data set does not exist and is not created.
        UserError: a data set cannot be created in this way.
        DownloadError: a download failed.
    """
    if not options.download:
        _refuse_without_download(options)
        try:
            for config in [{**config, "exclude_users_of": None} for config in settings] + settings:
                require_dataset(config)
            return []
        except LackingData as error:
            if not _agrees(error.lacking):
                raise
    _refuse_other_datasets(settings, options)
    lacking = {dataset.name: dataset for config in settings for dataset in lacking_datasets(config)}
    if not lacking:
        return []
    return _create(list(lacking.values()), settings, options, check)


def _create(lacking: list[Lacking], settings: list[dict], options, check) -> list[str]:
    mirrors = Mirrors(options.mirrors)
    recipes = [_recipe(dataset, settings, options, mirrors) for dataset in lacking]
    commands = [command_for(recipe, options.encoder) for recipe in recipes]
    if is_one_of_several():
        raise ConfigError(
            "--download runs in one process. Create the data before torchrun with:\n  "
            + "\n  ".join(commands)
        )
    if check is not None:
        check()
    from recbole_mm.prepare.amazon import make, what_is_missing
    from recbole_mm.prepare.extract import load_encoder

    modalities = _modalities(settings)
    with contextlib.redirect_stdout(sys.stderr):
        encoder = load_encoder(options.encoder)
        datasets = make(recipes, mirrors, encoder, modalities, " && ".join(commands))
        missing = [line for dataset in datasets for line in what_is_missing(dataset)]
        missing += _note_on_spaces(recipes, settings, options)
        print("\n".join([*(dataset.summary() for dataset in datasets), *missing]), flush=True)
    return missing


def _recipe(lacking: Lacking, settings: list[dict], options, mirrors: Mirrors) -> Recipe:
    name, root = lacking.name, lacking.root
    source = mirrors.source(name, options.layout)
    if source is None:
        if options.layout is None and mirrors.source(name) is None:
            raise LackingData("\n".join(how_to_create(lacking)), [lacking])
        source = mirrors.require_source(name, options.layout)
    users = [config for config in settings if name in needed_datasets(config)]
    return Recipe(
        name,
        source.layout,
        root,
        Path("raw", str(source.layout)),
        source,
        download=True,
        pictures="image" in _modalities(users),
    )


def _modalities(settings: list[dict]) -> tuple[str, ...]:
    """Modalities that a run reads; all if the configuration does not name them."""
    named = [config["modalities"] for config in settings]
    if None in named:
        return MODALITIES
    return tuple(m for m in MODALITIES if any(m in names for names in named))


def _refuse_without_download(options) -> None:
    for key in ("encoder", "layout", "mirrors"):
        if getattr(options, key) is not None:
            raise ConfigError(f"--{key} goes with --download, which creates a data set")


def _refuse_other_datasets(settings: list[dict], options) -> None:
    """Refuse an existing data set that is not what the options ask for."""
    for config in settings:
        lacking = {dataset.name for dataset in lacking_datasets(config)}
        root = Path(config["data_path"]).parent
        for name in (name for name in needed_datasets(config) if name not in lacking):
            card = read_card(root / name / f"{name}.card.json")
            layout = card.get("layout", options.layout)
            if options.layout not in (None, layout):
                other = f"{name}{options.layout}"
                raise ConfigError(
                    f"--layout={options.layout}: data set {name!r} exists and is of {layout}. Give "
                    f"the other one a name of its own: recbole-mm amazon {name} "
                    f"--layout={options.layout} --name={other} --download --pictures"
                )
            encoders = {info.get("encoder") for info in card.get("features", {}).values()}
            if options.encoder is not None and encoders - {options.encoder}:
                command = ["recbole-mm", "extract", name, f"--encoder={options.encoder}"]
                raise ConfigError(
                    f"--encoder={options.encoder}: data set {name!r} exists with features of "
                    f"{', '.join(map(str, encoders))}. Replace them with: {shell_line(command)}"
                )


def _note_on_spaces(recipes: list[Recipe], settings: list[dict], options) -> list[str]:
    """Note that each call of the embedded extractor makes a space of its own."""
    made = [recipe.name for recipe in recipes]
    every = {name for config in settings for name in needed_datasets(config)}
    if options.encoder or every == set(made):
        return []
    note = (
        f"features of the embedded extractor: those of {', '.join(made)} are not in the space of "
        f"{', '.join(sorted(every - set(made)))}; to transfer or to mix, extract them together: "
        f"recbole-mm extract {shell_line(sorted(every))}"
    )
    return [note]


def _agrees(lacking: list[Lacking]) -> bool:
    """Ask the user whether to download Amazon data sets."""
    known = all(Mirrors().source(dataset.name) for dataset in lacking)
    at_a_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if not (known and at_a_terminal) or is_one_of_several():
        return False
    names = ", ".join(dataset.name for dataset in lacking)
    print(
        f"{names}: not in {lacking[0].root}. Download the reviews, metadata and pictures from "
        f"Amazon's collection, and continue? [y/N] ",
        end="", file=sys.stderr, flush=True,
    )  # fmt: skip
    return sys.stdin.readline().strip().lower() in ("y", "yes")
