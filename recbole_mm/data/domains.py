r"""The domains of a mixture: the data sets it consists of, and what their features share."""

import glob
from pathlib import Path

from recbole_mm.data.feature_files import describe_features, feature_path, find_modalities
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.file_names import LONGEST_NAME
from recbole_mm.tools.yaml_files import YamlFileError, read_yaml

SEPARATOR = ":"
FACTS_OF_A_KIND = ("encoder", "dimension", "normalization", "pooling", "prompt")


class MixtureError(UserError):
    """Domains that cannot be one data set."""


def domains_of(config) -> list[str]:
    """The domains of ``config['dataset']``, from ``domains`` or from ``<dataset>.yaml`` next to its
    ``.inter`` file, which recbole-mm mix writes. Empty for a data set that is not a mixture.

    Raises:
        MixtureError: ``domains`` is not a list of names, a domain is duplicate, the mixture is its
            own domain, or the file is not readable.
    """
    name = config["dataset"]
    domains = config["domains"]
    recorded = Path(config["data_path"]) / f"{name}.yaml"
    if domains is None and recorded.is_file():
        domains = _recorded_domains(recorded)
    domains = [domains] if isinstance(domains, str) else domains or []
    if not isinstance(domains, list) or not all(map(_is_folder_name, domains)):
        raise MixtureError(
            f"mixture {name!r}: 'domains' must be a list of names of data sets, not {domains!r:.200} "
            f"(in {recorded} or in the configuration)"
        )
    refuse_repeated_domains(name, domains)
    return domains


def _is_folder_name(name) -> bool:
    """Whether a value is the plain name of a folder, not a path elsewhere."""
    plain = isinstance(name, str) and "\0" not in name and len(name.encode()) <= LONGEST_NAME
    return plain and name not in ("", ".", "..") and not set(name) & set("/\\")


def refuse_repeated_domains(name: str, domains: list[str]) -> None:
    """Refuse a mixture with duplicate domains or with its own name as a domain."""
    repeated = sorted({domain for domain in domains if domains.count(domain) > 1})
    if repeated:
        raise MixtureError(f"mixture {name!r} of {domains}: duplicate domains {repeated}.")
    if name in domains:
        raise MixtureError(f"mixture {name!r} of {domains}: it cannot be its own domain.")


def _recorded_domains(path: Path):
    try:
        return read_yaml(path).get("domains")
    except YamlFileError as error:
        raise MixtureError(
            f"{error}. Expected the list 'domains': create the mixture again with recbole-mm mix."
        ) from error


def domain_folder(config, domain: str) -> Path:
    """The folder of a domain, next to that of the mixture."""
    return Path(config["data_path"]).parent / domain


def domains_of_data_set(config, name: str) -> list[str]:
    """The domains of a data set next to that of a configuration, from its own file; empty if it is
    not a mixture."""
    folder = str(domain_folder(config, name))
    return domains_of({"dataset": name, "data_path": folder, "domains": None})


def excluded_data_sets(config) -> list[str]:
    """The data sets whose users are excluded (``exclude_users_of``).

    Raises:
        MixtureError: not a list of names, or it contains the data set itself or one of its domains.
    """
    names = config["exclude_users_of"] or []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(map(_is_folder_name, names)):
        raise MixtureError(
            f"exclude_users_of: {names!r:.200} must be a list of names of data sets, e.g. [ToysGames]"
        )
    if config["dataset"] in names:
        raise MixtureError(
            f"exclude_users_of: {config['dataset']!r} is the data set itself, so no user of it would be "
            f"left: name other data sets"
        )
    own = [name for name in domains_of(config) if name in names]
    if own:
        raise MixtureError(
            f"exclude_users_of: {own[0]!r} is a domain of the mixture {config['dataset']}, so no user of "
            f"this domain would be left: remove {own[0]} from the domains, or name other data sets"
        )
    return names


def excluded_parts(config) -> list[str]:
    """The result of :func:`excluded_data_sets`, with mixtures replaced by their domains."""
    excluded = excluded_data_sets(config)
    return [part for name in excluded for part in domains_of_data_set(config, name) or [name]]


def interaction_files(config, name: str) -> list[Path]:
    """The interaction file of a data set next to that of a configuration, or its parts if it is
    already split."""
    folder = domain_folder(config, name)
    whole = folder / f"{name}.inter"
    return [whole] if whole.is_file() else sorted(folder.glob(f"{glob.escape(name)}.*.inter"))


def common_modalities(root, domains: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Modalities that every domain has, and, by domain, those that some other domain lacks."""
    found = {domain: find_modalities(Path(root) / domain, domain) for domain in domains}
    common = [m for m in found[domains[0]] if all(m in found[domain] for domain in domains)]
    left_out = {d: [m for m in found[d] if m not in common] for d in domains}
    return common, {domain: names for domain, names in left_out.items() if names}


def domains_with(root, domains: list[str], modality: str) -> list[str]:
    """The domains that have features of a modality."""
    return [d for d in domains if feature_path(Path(root) / d, d, modality).is_file()]


def refuse_different_features(root, domains: list[str], modality: str) -> None:
    """Refuse a modality whose features are not of the same kind in all domains that have it.

    Raises:
        MixtureError: features differ in encoder, width, normalization, pooling, prompt or (for the
            embedded extractor) space.
    """
    kinds: dict[tuple, list[str]] = {}
    for domain in domains_with(root, domains, modality):
        path = feature_path(Path(root) / domain, domain, modality)
        info = describe_features(path)
        kind = tuple(str(info.get(fact)) for fact in FACTS_OF_A_KIND)
        if info.get("encoder") == "embedded":
            kind = (*kind, f"space {info.get('space')} of {info.get('shared_with')}")
        kinds.setdefault(kind, []).append(str(path))
    if len(kinds) > 1:
        listing = "; ".join(f"{', '.join(paths)}: {kind}" for kind, paths in kinds.items())
        raise MixtureError(
            f"{modality} features of the domains differ in encoder, width, scale, pooling, prompt or space: "
            f"{listing}. Extract them together: recbole-mm extract {shell_line(domains)}"
        )
