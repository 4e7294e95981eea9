"""The table of items: one row per item, with texts, and with the columns that a user keeps."""

from typing import NamedTuple

import polars as pl

from recbole_mm.prepare.formats import PLAIN, TextFormat, is_separated
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.interactions import as_tokens, unusable_tokens
from recbole_mm.prepare.layouts import own_option
from recbole_mm.prepare.table_files import pick_columns, reading, scan_table
from recbole_mm.prepare.text_tables import short_rows
from recbole_mm.tools.counts import counted

ITEM_COLUMN = "--item-column=COLUMN (or --key-column=COLUMN, if this table has another name for it)"


class ItemTable(NamedTuple):
    """Items of a data set.

    Attributes:
        rows: ``item_id`` and further columns as text (kept numbers as numbers), by token.
        types: RecBole's type of each kept column.
        left_out: number of dropped rows of the file, by reason.
        unused: columns of the file that were not read.
    """

    rows: pl.DataFrame
    types: dict[str, str]
    left_out: dict[str, int]
    unused: list[str]


def read_items(
    path,
    columns: dict[str, str | None],
    ordered: pl.Series,
    kept: dict[str, tuple[str, str | None]] | None = None,
    text: TextFormat = PLAIN,
    scratch=None,
    only_ordered: bool = False,
    layout: str | None = None,
) -> ItemTable:
    """All items: those of the table, with or without interactions, and those of the interactions.

    Items without a row get one with only their token; rows without a usable token are dropped and
    counted.

    Args:
        path: path of the table, in any format; ``None`` if there is none.
        columns: ``item_id`` and texts, our name -> the file's, see
            :func:`~recbole_mm.prepare.table_files.pick_columns`.
        ordered: tokens of the items with interactions.
        kept: further columns, our name -> (the file's, ``token`` or ``float``; ``None``: by content).
        text: format of separated text.
        scratch: folder for copies.
        only_ordered: whether to exclude items without interactions.
        layout: layout of a public data set, which excludes the options for a user's own tables.

    Raises:
        InputError: the table has no rows, an item has two different ones, or no item with
            interactions has a row.
    """
    wanted = pl.DataFrame({"item_id": ordered.unique().sort()})
    if path is None:
        return ItemTable(wanted, {}, {}, [])
    kept = kept or {}
    columns = columns | {name: column for name, (column, _) in kept.items()}
    with reading(path, text):
        whole = scan_table(path, text, scratch)
        table = pick_columns(whole, columns, path, _options(columns, kept, layout), text)
        read = {theirs or ours for ours, theirs in columns.items()}
        unused = [name for name in whole.collect_schema().names() if name not in read]
        types = table.collect_schema()
        table = table.with_columns(
            as_tokens(name, dtype) if name == "item_id" else as_text(name, dtype)
            for name, dtype in types.items()
        )
        if only_ordered:
            table = table.join(wanted.lazy(), on="item_id", how="semi")
        items = table.collect(engine="streaming")
    _report_short_rows(path, text)
    items = _without_equal_rows(path, items)
    items, left_out = _with_usable_tokens(items, columns["item_id"] or "item_id")
    _check_rows(path, items, wanted, only_ordered, layout)
    lacking = wanted.join(items, on="item_id", how="anti")
    _report_lacking(path, lacking["item_id"], ordered)
    items = pl.concat([items, lacking], how="diagonal").sort("item_id")
    kinds = {name: kind or type_by_content(items[name]) for name, (_, kind) in kept.items()}
    numbers = [name for name, kind in kinds.items() if kind == "float"]
    items = items.with_columns(_numbers(path, items[name]) for name in numbers)
    return ItemTable(items, kinds, left_out, unused)


def as_text(name: str, dtype) -> pl.Expr:
    """A column of any type as text; lists, and lists of lists, with commas between their values."""
    column = pl.col(name)
    if not isinstance(dtype, pl.List):
        return (
            column.struct.json_encode() if isinstance(dtype, pl.Struct) else column.cast(pl.String)
        )
    while isinstance(dtype.inner, pl.List):
        column, dtype = column.list.eval(pl.element().explode()), dtype.inner
    if isinstance(dtype.inner, pl.Struct):
        column = column.list.eval(pl.element().struct.json_encode())
    return column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)


def type_by_content(values: pl.Series) -> str:
    """``float`` if all values are numbers and none has a leading zero (as codes have), else ``token``."""
    values = values.drop_nulls().str.strip_chars()
    values = values.filter(values != "")
    numbers = values.cast(pl.Float64, strict=False)
    is_number = len(values) and numbers.is_finite().fill_null(False).all()
    return "float" if is_number and not values.str.contains(r"^[+-]?0\d").any() else "token"


def _numbers(path, values: pl.Series) -> pl.Series:
    texts = values.str.strip_chars().replace("", None)
    numbers = texts.cast(pl.Float64, strict=False)
    bad = texts.filter(texts.is_not_null() & ~numbers.is_finite().fill_null(False))
    if len(bad):
        raise InputError(
            f"{path}: {counted(len(bad), 'value', 'values')} of {values.name!r} cannot be read as a number, "
            f"e.g. {bad[0]!r}; keep it as --keep {values.name}:token."
        )
    return numbers


def _options(columns: dict, kept: dict, layout: str | None) -> dict[str, str]:
    options = {name: f"--item-text {name}=COLUMN" for name in columns}
    options |= {name: f"--keep {name}=COLUMN" for name in kept}
    return options | {"item_id": own_option(ITEM_COLUMN, layout)}


def _report_short_rows(path, text: TextFormat) -> None:
    if not is_separated(path, text):
        return
    count, line = short_rows(path, text)
    if count:
        print(
            f"{path}: {counted(count, 'row has', 'rows have')} fewer fields than the header, the first in "
            f"line {line}; missing fields are read as empty."
        )


def _without_equal_rows(path, items: pl.DataFrame) -> pl.DataFrame:
    """Each row once, in the order of the file."""
    distinct = items.unique(maintain_order=True)
    copies = len(items) - len(distinct)
    if copies:
        example = items.filter(items.is_duplicated())["item_id"][0]
        print(
            f"{path}: {counted(copies, 'row is', 'rows are')} equal to another in all columns that are "
            f"read, e.g. that of item {example!r}; equal rows count once, remove all but one"
        )
    return distinct


def _report_lacking(path, lacking: pl.Series, ordered: pl.Series) -> None:
    if len(lacking):
        events = int(ordered.is_in(lacking.implode()).sum())
        print(
            f"{path}: {counted(len(lacking), 'item', 'items')} of the interactions without a row in it "
            f"({counted(events, 'event', 'events')}), e.g. {lacking[0]!r}; such items are kept without "
            f"texts: add their rows, or remove their events from the interactions"
        )


def _with_usable_tokens(items: pl.DataFrame, name: str) -> tuple[pl.DataFrame, dict[str, int]]:
    left_out = {}
    for reason, bad in unusable_tokens("item_id", name).items():
        before = len(items)
        items = items.filter(~bad.fill_null(False))
        if len(items) < before:
            left_out[reason] = before - len(items)
    return items, left_out


def _check_rows(
    path, items: pl.DataFrame, wanted: pl.DataFrame, only_ordered: bool, layout: str | None
) -> None:
    if len(items) == 0 and not only_ordered:
        raise InputError(f"{path}: it has no rows; expected a row per item. Get it again.")
    repeated = items.filter(items["item_id"].is_duplicated())["item_id"].unique().sort()
    if len(repeated):
        raise InputError(
            f"{path}: {counted(len(repeated), 'item has', 'items have')} more than one row, e.g. "
            f"{repeated.head(3).to_list()}; keep one row per item."
        )
    if len(wanted.join(items, on="item_id", how="semi")) == 0:
        raise InputError(
            f"{path}: it has none of the {len(wanted):,} items of the interactions; theirs look "
            f"like {wanted['item_id'].head(3).to_list()}, those of this table like "
            f"{items['item_id'].head(3).to_list()}. Does it belong to another data set, or is its item "
            f"column a different one ({own_option('--key-column=COLUMN', layout)})?"
        )
