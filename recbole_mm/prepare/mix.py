"""Make one pre-training set of several prepared data sets, its domains.

    recbole-mm mix FHCKM Food Home CDs Kindle Movies

Written are dataset/NAME/NAME.inter, in which users and items carry the name of their domain
(``Food:B00004W4UP``), and NAME.yaml, which lists the domains. Features are not copied: those of
``Food:B00004W4UP`` are the row ``B00004W4UP`` of dataset/Food/Food.<modality>.npz.
"""

import argparse
from pathlib import Path

import polars as pl
import yaml

from recbole_mm.data.mixture import MixtureError, common_modalities, refuse_different_features
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.files import whole_or_not


def mix(domains: list[PreparedDataset], root, name: str) -> PreparedDataset:
    """Write the mixture.

    Raises:
        InputError: a domain twice or empty, or domains whose features of one modality are of
            different widths, encoders or spaces.
    """
    names = [domain.name for domain in domains]
    repeated = sorted({one for one in names if names.count(one) > 1})
    if repeated or name in names:
        raise InputError(f"{repeated or name} stands twice in the mixture {name} of {names}.")
    empty = [domain.path("inter") for domain in domains if len(domain.interactions) == 0]
    if empty:
        raise InputError(f"{empty[0]}: no interactions; take this domain out of the mixture.")
    modalities = _common_modalities(root, names)

    columns = [
        column
        for column in domains[0].interactions.columns
        if all(column in domain.interactions.columns for domain in domains)
    ]
    interactions = pl.concat(
        _prefixed(domain.interactions.select(columns), domain.name) for domain in domains
    )
    items = pl.concat(_prefixed(domain.items.select("item_id"), domain.name) for domain in domains)
    dataset = write_dataset(root, name, interactions, items, root, domains=names)
    settings = {"domains": names, "modalities": modalities}
    with whole_or_not(dataset.path("yaml")) as temporary:
        first = f"# Made by: recbole-mm mix {name} {' '.join(names)}\n"
        temporary.write_text(first + yaml.safe_dump(settings, default_flow_style=None))
    dataset.write_card()
    return dataset


def _prefixed(table: pl.DataFrame, domain: str) -> pl.DataFrame:
    tokens = [name for name in ("user_id", "item_id") if name in table.columns]
    return table.with_columns((pl.lit(f"{domain}:") + pl.col(name)).alias(name) for name in tokens)


def _common_modalities(root, names: list[str]) -> list[str]:
    """Modalities that every domain has; their features must be of one kind."""
    common, left_out = common_modalities(root, names)
    for domain, modalities in left_out.items():
        print(f"{domain}: {modalities} not in every domain, left out of the mixture")
    try:
        for modality in common:
            refuse_different_features(root, names, modality)
    except MixtureError as error:
        raise InputError(str(error)) from error
    return common


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the mixture")
    parser.add_argument("domains", nargs="+", help="prepared data sets")
    parser.add_argument("--output", type=Path, default=Path("dataset"), help="[dataset]")
    args = parser.parse_args(arguments)
    domains = [PreparedDataset(args.output, name) for name in args.domains]
    dataset = mix(domains, args.output, args.name)
    card = dataset.card
    print(
        f"{dataset.folder}: {len(domains)} domains, {card['users']:,} users, {card['items']:,} "
        f"items, {card['interactions']:,} interactions"
    )
