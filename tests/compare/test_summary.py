import polars as pl
import pytest

from recbole_mm.compare.summary import refuse_other_targets
from recbole_mm.config.errors import ConfigError


def test_entries_with_other_targets_are_refused():
    rows = {"seed": [1, 1], "user": ["u", "v"]}
    first = pl.DataFrame({**rows, "label": "A", "item": ["i", "j"]})
    second = pl.DataFrame({**rows, "label": "B", "item": ["i", "k"]})

    refuse_other_targets(pl.concat([first, first.with_columns(label=pl.lit("C"))]))
    with pytest.raises(ConfigError, match="B was tested on other targets than A"):
        refuse_other_targets(pl.concat([first, second]))
