"""Users that data sets have in common, by their tokens, and data sets whose users are left out of
another one (``exclude_users_of``).

Equal tokens need not be the same person: data sets that number their users share tokens only.
"""

from pathlib import Path
from typing import NamedTuple

from recbole_mm.data.atomic_files import AtomicFile
from recbole_mm.data.domains import (
    SEPARATOR,
    domain_folder,
    domains_of,
    domains_of_data_set,
    excluded_parts,
    interaction_files,
)
from recbole_mm.data.errors import DatasetError


class SharedUsers(NamedTuple):
    """How many users a target shares with the data of a pre-training.

    Attributes:
        source: name of the data of the pre-training.
        target: name of the target.
        n_shared: users with the same token.
        n_target: users of the target.
        n_source: users of the source, with those that are left out.
        n_left_out: how many of them are left out (``exclude_users_of``).
    """

    source: str
    target: str
    n_shared: int
    n_target: int
    n_source: int
    n_left_out: int

    def __str__(self) -> str:
        text = (
            f"{self.n_shared:,} of the {self.n_target:,} users of {self.target} have the token of a "
            f"user of {self.source}, the data of the pre-training"
        )
        if self.n_left_out:
            text += f", of whose {self.n_source:,} users {self.n_left_out:,} are left out (exclude_users_of)"
        remedy = "; exclude_users_of: targets in the pretrain stage leaves these users out of it"
        return text + (remedy if self.n_shared else "")


def shared_users(source, target) -> SharedUsers | None:
    """What the data of two configurations share; ``None`` if files do not exist.

    Args:
        source: of a pretrain stage.
        target: of a finetune stage.
    """
    names = [domains_of(config) or [config["dataset"]] for config in (source, target)]
    excluded = excluded_parts(source)
    needed = [(source, name) for name in [*names[0], *excluded]]
    needed += [(target, name) for name in names[1]]
    if not all(interaction_files(config, name) for config, name in needed):
        return None
    users, left_out = users_of(source, names[0]), users_of(source, excluded)
    targets = users_of(target, names[1])
    return SharedUsers(
        source=source["dataset"],
        target=target["dataset"],
        n_shared=len((users - left_out) & targets),
        n_target=len(targets),
        n_source=len(users),
        n_left_out=len(users & left_out),
    )


def users_of(config, names: list[str]) -> set[str]:
    """Tokens of the users of data sets that lie beside that of a configuration; of a mixture those of
    its domains.

    Args:
        config: says where they lie, and how their files are written.
        names: of the data sets.

    Raises:
        DatasetError: a data set has no interactions, or no column of users.
    """
    users: set[str] = set()
    for name in names:
        domains = domains_of_data_set(config, name)
        if domains:
            users |= users_of(config, domains)
            continue
        files = interaction_files(config, name)
        if not files:
            raise DatasetError(
                f"exclude_users_of: {domain_folder(config, name) / name}.inter does not exist; create the data set "
                f"{name!r} first, or leave it out"
            )
        users = users.union(*(_users_in(file, config) for file in files))
    return users


def _users_in(path: Path, config) -> set[str]:
    file, field = (
        AtomicFile(path, config["field_separator"], config["encoding"]),
        config["USER_ID_FIELD"],
    )
    if field not in [column.name for column in file.columns]:
        names = ", ".join(column.name for column in file.columns)
        raise DatasetError(
            f"{path}: no column {field!r} of users; it has {names}. Data sets that are compared by "
            f"their users need the same USER_ID_FIELD."
        )
    (users,) = file.cells([field])
    return set(users.drop_nulls().unique())


def plain_tokens(tokens, of_mixture: bool):
    """Tokens of users without the name of their domain, if they have one.

    Args:
        tokens: a pandas Index.
        of_mixture: whether each begins with the name of a domain.
    """
    return tokens.map(lambda token: token.partition(SEPARATOR)[2]) if of_mixture else tokens
