"""Users that data sets have in common, by their tokens, and data sets whose users are excluded from
another one (``exclude_users_of``).

Equal tokens need not mean the same person: data sets that number their users only share tokens.
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
        source: name of the pre-training data.
        target: name of the target.
        n_shared: number of users with the same token.
        n_target: number of users of the target.
        n_source: number of users of the source, including excluded ones.
        n_left_out: number of excluded users (``exclude_users_of``).
        is_source: whether the target is among the pre-training data, so that its users cannot be
            excluded.
    """

    source: str
    target: str
    n_shared: int
    n_target: int
    n_source: int
    n_left_out: int
    is_source: bool

    def __str__(self) -> str:
        text = (
            f"{self.n_shared:,} of the {self.n_target:,} users of {self.target} have the token of a "
            f"user of {self.source}, the pre-training data"
        )
        if self.n_left_out:
            text += (
                f"; {self.n_left_out:,} of its {self.n_source:,} users are excluded "
                f"(exclude_users_of)"
            )
        if self.n_shared and not self.is_source:
            text += "; exclude_users_of: targets in the pretrain stage excludes these users from it"
        return text


def shared_users(source, target) -> SharedUsers | None:
    """The users that the data of two configurations share; ``None`` if files do not exist.

    Args:
        source: configuration of a pretrain stage.
        target: configuration of a finetune stage.
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
        is_source=bool({*names[0]} & {*names[1]}),
    )


def users_of(config, names: list[str]) -> set[str]:
    """Tokens of the users of data sets next to that of a configuration; for a mixture, those of its
    domains.

    Args:
        config: configuration that determines their location and file format.
        names: names of the data sets.

    Raises:
        DatasetError: a data set has no interactions, or no user column.
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
                f"{name!r} first, or remove it there"
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
        of_mixture: whether each token starts with the name of a domain.
    """
    return tokens.map(lambda token: token.partition(SEPARATOR)[2]) if of_mixture else tokens
