"""Which data sets there are, and how each is made."""

from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import RECBOLE_DIR
from recbole_mm.config.property_files import properties_dir


def described_datasets() -> dict[str, str]:
    """Data sets with a property file and how each is made: the file's first line, a comment."""
    files = sorted((properties_dir() / "dataset").glob("*.yaml"))
    return {path.stem: _first_line(path).removeprefix("#").strip() for path in files}


def datasets_in(folder) -> list[str]:
    """Names of the data sets in a data folder: those with ``<name>/<name>.inter``."""
    paths = Path(folder).glob("*/*.inter")
    return sorted({path.parent.name for path in paths if path.name.startswith(path.parent.name)})


def require_dataset(config):
    """Check that the interactions of ``config['dataset']``, or of its domains, are there, or will
    be.

    Sets that make themselves and sets that RecBole's loader downloads will be.

    Raises:
        ConfigError: they are not. The message says how the data set is made, if that is known,
            and which data sets there are.
    """
    from recbole_mm.data.builtin import BUILTIN
    from recbole_mm.data.domains import MixtureError, domain_folder, domains_of

    name, folder = config["dataset"], Path(config["data_path"])
    try:
        domains = domains_of(config)
    except MixtureError as error:
        raise ConfigError(str(error)) from error
    if domains and not (folder / f"{name}.inter").is_file():
        for domain in domains:
            _require(config, domain, domain_folder(config, domain))
    elif name not in BUILTIN and name not in _downloaded_by_recbole():
        _require(config, name, folder)


def _require(config, name: str, folder: Path):
    parts = config["benchmark_filename"]
    wanted = [f"{name}.{part}.inter" for part in parts] if parts else [f"{name}.inter"]
    missing = [file for file in wanted if not (folder / file).is_file()]
    if not missing:
        return
    described = described_datasets()
    lines = [f"data set {name!r}: there is no {folder / missing[0]}."]
    if name in described:
        lines.append(f"Make it: {described[name]}")
    else:
        lines.append("Known data sets and how they are made:")
        lines += [f"  {known}: {how}" for known, how in described.items()]
    here = ", ".join(datasets_in(folder.parent)) or "none"
    lines.append(f"Ready in {folder.parent}: {here} (another folder: --data_path=FOLDER)")
    raise ConfigError("\n".join(lines))


def _downloaded_by_recbole() -> list[str]:
    """Data sets that RecBole's loader fetches over the network when they are not there."""
    lines = (RECBOLE_DIR / "properties/dataset/url.yaml").read_text(encoding="utf-8").splitlines()
    return [line.partition(":")[0] for line in lines]


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline()
