"""Which data sets exist, which a run lacks, and how each is created; without RecBole or torch."""

from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import RECBOLE_DIR
from recbole_mm.config.property_files import properties_dir
from recbole_mm.prepare.making import command_to_resume
from recbole_mm.prepare.mirrors import Mirrors
from recbole_mm.prepare.recipe import Recipe, command_for
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.names import nearest

EXPLANATION = "  ("
"""Separator between the command in the first line of a property file and its explanation."""


class LackingData(ConfigError):
    """A data set that does not exist; the message says how it is created.

    Attributes:
        lacking: missing data sets.
    """

    def __init__(self, message: str, lacking: list["Lacking"]):
        super().__init__(message)
        self.lacking = lacking


class Lacking(NamedTuple):
    """A data set, or a domain of a mixture, that a run needs and that is not complete.

    Attributes:
        name: name of the data set.
        root: folder of the data sets.
        missing: file that does not exist, or ``None``.
        resume: command that finishes what an interruption left, or ``None``.
        key: configuration key that names it, if not ``dataset`` or ``domains``.
    """

    name: str
    root: Path
    missing: Path | None
    resume: str | None
    key: str | None = None


def described_datasets() -> dict[str, str]:
    """Data sets with a property file -> how each is created (the comment in its first line)."""
    files = sorted((properties_dir() / "dataset").glob("*.yaml"))
    return {path.stem: _first_line(path).removeprefix("#").strip() for path in files}


def datasets_in(folder) -> list[str]:
    """Names of the data sets in a data folder: those with ``<name>/<name>.inter``."""
    paths = Path(folder).glob("*/*.inter")
    return sorted({path.parent.name for path in paths if path.name.startswith(path.parent.name)})


def needed_datasets(config) -> list[str]:
    """The data sets that must exist for a run: the named one, or the domains of a mixture, and those
    whose users are excluded.

    Data sets that are made on first use, or that RecBole's loader downloads, need not exist.

    Args:
        config: configuration with ``dataset``, ``data_path`` (the folder of this data set) and
            ``domains``.

    Raises:
        MixtureError: the domains cannot form one data set.
    """
    from recbole_mm.data.builtin import BUILTIN
    from recbole_mm.data.domains import domains_of, excluded_parts

    name = config["dataset"]
    names = [name]
    domains = domains_of(config)
    if domains and not (Path(config["data_path"]) / f"{name}.inter").is_file():
        names = domains
    found_later = {*BUILTIN, *_downloaded_by_recbole()}
    return [name for name in (*names, *excluded_parts(config)) if name not in found_later]


def data_folder(config) -> Path:
    """The folder of the data sets: ``data_path`` without the name that RecBole has appended."""
    parents, name = Path(config["data_path"]).parents, Path(config["dataset"])
    return parents[min(len(name.parts), len(parents)) - 1]


def lacking_datasets(config) -> list[Lacking]:
    """The :func:`needed_datasets` that do not exist or are incomplete."""
    from recbole_mm.data.domains import excluded_parts, interaction_files

    root = data_folder(config)
    excluded = excluded_parts(config)
    found = []
    for name in needed_datasets(config):
        key = "exclude_users_of" if name in excluded else None
        parts = config["benchmark_filename"]
        files = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
        if key and interaction_files(config, name):
            files = []  # whole or split: all of them are read for their users
        missing = [root / name / file for file in files if not (root / name / file).is_file()]
        resume = command_to_resume(root, name)
        if missing or resume:
            found.append(Lacking(name, root, missing[0] if missing else None, resume, key))
    return found


def require_dataset(config) -> None:
    """Check that the interactions of ``config['dataset']``, or of its domains, exist or will exist.

    Raises:
        LackingData: they are missing. The message says how to create the data set, if that is
            known, and which data sets exist.
    """
    lacking = lacking_datasets(config)
    if lacking:
        raise LackingData("\n".join(how_to_create(lacking[0])), lacking)


def how_to_create(lacking: Lacking, folder_option: str = "--data_path") -> list[str]:
    """Help on a missing data set, as lines: similar names, existing data sets, and commands.

    Args:
        lacking: missing data set.
        folder_option: command-line option that names another folder of data sets.
    """
    name, root = lacking.name, lacking.root
    key = f"{lacking.key}: " if lacking.key else ""
    existing = ", ".join(datasets_in(root)) or "none"
    existing_sets = f"Data sets in {root}: {existing} (another folder: {folder_option}=FOLDER)"
    if lacking.resume:
        begun = f"{key}data set {name!r}: its creation was interrupted. Resume it with:"
        return [begun, f"  {lacking.resume}"]
    if "/" in name or "\\" in name:
        return [f"{key}data set {name!r}: {_no_path(name, root, folder_option)}", existing_sets]
    first = f"{key}data set {name!r}: {lacking.missing} does not exist"
    described, mirrors = described_datasets(), Mirrors()
    source = mirrors.source_of_any_year(name)
    if source is not None:
        command = command_for(Recipe(name, source.layout, root, Path("raw"), pictures=True))
        options = "--download" if mirrors.source(name) else f"--download --layout={source.layout}"
        also = f"or add {options} to the command that trains on it."
        return [f"{first}. Create it with:", f"  {command}", also, existing_sets]
    if name in described:
        return [
            f"{first}. Create it with:",
            f"  {_with_output(described[name], root)}",
            existing_sets,
        ]
    if key:
        near = nearest(name, datasets_in(root), n=3)
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        return [f"{first}{meant}", f"Name an existing data set, or create it. {existing_sets}"]
    near = nearest(name, [*datasets_in(root), *described, *mirrors.dataset_names()])
    own = shell_line(["recbole-mm", "prepare", "FOLDER", f"--name={name}", *_output(root)])
    return [
        f"{first}{f'; did you mean {near[0]!r}?' if near else '.'}",
        existing_sets,
        f"Create one from your own tables with: {own}",
        f"Known data sets: {', '.join(described)}",
        "recbole-mm --help says how to create each; recbole-mm amazon --help lists all of Amazon's",
    ]


def _no_path(name: str, root: Path, folder_option: str) -> str:
    """Why a path is not a name, and which data set is probably meant."""
    wrong = "it is a path, but a data set is given by its name"
    folder, own_name = Path(name).parent, PureWindowsPath(name).name
    if own_name in datasets_in(root):
        return f"{wrong}; did you mean {own_name!r}?"
    if own_name in datasets_in(folder):
        return f"{wrong}; did you mean {shell_line([own_name, f'{folder_option}={folder}'])}?"
    return f"{wrong}, and the folder of all data sets by {folder_option}=FOLDER."


def _output(root: Path) -> list[str]:
    return [] if root == Path("dataset") else [f"--output={root}"]


def _with_output(how: str, root: Path) -> str:
    """The command, with ``--output`` for another folder of data sets."""
    command, separator, explanation = how.partition(EXPLANATION)
    if _output(root) and command.startswith("recbole-mm ") and " --model=" not in command:
        command = f"{command} {shell_line(_output(root))}"
    return command + separator + explanation


def _downloaded_by_recbole() -> list[str]:
    """Data sets that RecBole's loader fetches over the network when they do not exist."""
    lines = (RECBOLE_DIR / "properties/dataset/url.yaml").read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[0] for line in lines]


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline()
