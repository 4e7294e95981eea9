"""Mixtures: prepared data sets, the domains, joined into one."""

import polars as pl
import yaml

from recbole_mm.data.domains import (
    SEPARATOR,
    common_modalities,
    refuse_different_features,
    refuse_repeated_domains,
)
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.files import write_text


def mix(domains: list[PreparedDataset], root, name: str) -> PreparedDataset:
    """Write the mixture.

    Raises:
        InputError: a domain has no interactions.
        MixtureError: a domain is listed twice, or the domains' features of one modality differ in
            width, encoder or space.
    """
    names = [domain.name for domain in domains]
    refuse_repeated_domains(name, names)
    empty = [domain.path("inter") for domain in domains if len(domain.interactions) == 0]
    if empty:
        raise InputError(f"{empty[0]}: no interactions; remove this domain from the mixture.")
    modalities = _common_modalities(root, names)

    columns = [
        column
        for column in domains[0].interactions.columns
        if all(column in domain.interactions.columns for domain in domains)
    ]
    interactions = pl.concat(
        _prefixed(_in_order(domain, columns).select(columns), domain.name) for domain in domains
    )
    items = pl.concat(_prefixed(domain.items.select("item_id"), domain.name) for domain in domains)
    dataset = write_dataset(root, name, interactions, items, root, domains=names)
    settings = {"domains": names, "modalities": modalities}
    first = f"# Created by: recbole-mm mix {shell_line([name, *names])}\n"
    write_text(dataset.path("yaml"), first + yaml.safe_dump(settings, default_flow_style=None))
    dataset.write_card()
    return dataset


def _in_order(domain: PreparedDataset, columns: list[str]) -> pl.DataFrame:
    """Interactions of a domain; without their times the order of rows is the order of events."""
    return domain.interactions if "timestamp" in columns else domain.in_time_order()


def _prefixed(table: pl.DataFrame, domain: str) -> pl.DataFrame:
    tokens = [name for name in ("user_id", "item_id") if name in table.columns]
    return table.with_columns(
        (pl.lit(f"{domain}{SEPARATOR}") + pl.col(name)).alias(name) for name in tokens
    )


def _common_modalities(root, names: list[str]) -> list[str]:
    """Modalities that every domain has; the features of each modality must be of one kind."""
    common, left_out = common_modalities(root, names)
    for domain, modalities in left_out.items():
        print(
            f"{domain}: not every domain has {', '.join(modalities)}; used where it exists if 'modalities' "
            f"names it"
        )
    for modality in common:
        refuse_different_features(root, names, modality)
    return common
