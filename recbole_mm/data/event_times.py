"""Times of events: unix seconds."""

from logging import getLogger

import numpy as np

from recbole_mm.data.errors import DatasetError
from recbole_mm.tools.counts import counted

YEAR_2100 = 4102444800


def check_times(path: str, times: np.ndarray, name: str = "timestamp") -> None:
    """Check that times are finite and ``>= 0``; warn if they are after 2100, hence probably not
    seconds.

    Args:
        path: path of the file, for the messages.
        times: times in the order of its rows.
        name: name of their column.

    Raises:
        DatasetError: a time is invalid (the message names the first such row), or the column is not
            numeric.
    """
    if times.dtype.kind not in "fiu":
        raise DatasetError(
            f"{path}: its times are read as text; name the column {name}:float in the first line."
        )
    bad = ~((times >= 0) & np.isfinite(times))  # NaN as well
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DatasetError(
            f"{path}: {counted(int(bad.sum()), 'time is', 'times are')} missing, negative or infinite, first in "
            f"row {row + 2} ({times[row]}). Times are unix seconds >= 0; remove the column "
            f"if the data have no times."
        )
    if times.max() > YEAR_2100:
        getLogger().warning(
            f"{path}: times go up to {times.max():.0f}, after the year 2100. If they are "
            f"milliseconds, divide them by 1000: pauses between events are read as seconds."
        )
