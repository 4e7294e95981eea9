r"""What can be wrong with a file of interactions, said in full."""

from logging import getLogger

import numpy as np
import pandas as pd

from recbole_mm.tools.errors import UserError

YEAR_2100 = 4102444800


class DatasetError(UserError):
    """Interactions that cannot be used as they are."""


def check_columns(path: str, encoding: str, separator: str, required: list[str]) -> None:
    """The first line of an ``.inter`` file must name its columns with their types.

    Args:
        path: of the file.
        encoding: of its text.
        separator: between its columns.
        required: names of columns that must be there.

    Raises:
        DatasetError: it does not, or lacks one of them.
    """
    try:
        with open(path, encoding=encoding) as file:
            columns = file.readline().rstrip("\r\n").split(separator)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: no text in {encoding} ({error}).") from error
    names = [column.partition(":")[0] for column in columns]
    if not set(required) <= set(names) or any(":" not in column for column in columns):
        wanted = " and ".join(f"{field}:token" for field in required)
        raise DatasetError(
            f"{path}: its first line is {columns}, but should name every column with its type, "
            f"{wanted} among them."
        )


def text_among_numbers(path: str, encoding: str, separator: str) -> str | None:
    """Where a column of numbers holds something else, which pandas does not say.

    Args:
        path: of the file.
        encoding: of its text.
        separator: between its columns.

    Returns:
        the message, or ``None`` if there is no such column.
    """
    table = pd.read_csv(path, sep=separator, dtype=str, encoding=encoding)
    for column in table.columns[table.columns.str.endswith(":float")]:
        bad = pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            return (
                f"{path}: column '{column}' holds numbers, but row {row + 2} says "
                f"{table[column].iloc[row]!r} ({int(bad.sum())} such rows). Correct them, or "
                f"leave the column out."
            )
    return None


def check_times(path: str, times: pd.Series) -> None:
    """Times must be finite and ``>= 0``; after the year 2100 they are probably no seconds.

    Raises:
        DatasetError: some are not; the first such row is named. Or they are no column of numbers.
    """
    if not pd.api.types.is_numeric_dtype(times):
        raise DatasetError(
            f"{path}: its times are read as text; name the column {times.name}:float in the first "
            f"line."
        )
    bad = ~((times >= 0) & np.isfinite(times))  # NaN as well
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DatasetError(
            f"{path}: {int(bad.sum())} times are missing, negative or infinite, first in row "
            f"{row + 2} ({times.iloc[row]}). Times are unix seconds >= 0; leave the column out "
            f"if there are none."
        )
    if times.max() > YEAR_2100:
        getLogger().warning(
            f"{path}: times go up to {times.max():.0f}, after the year 2100. If they are "
            f"milliseconds, divide them: pauses between events are read as seconds."
        )
