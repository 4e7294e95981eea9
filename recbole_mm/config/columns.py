"""The columns of the atomic files that are read by default."""

FIELDS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
"""RecBole's keys for column names, and the names in our property files."""

ALL = "*"
"""Value of ``load_col`` for every column of a file."""


def follow_fields(load_col, given: dict):
    """The default of ``load_col`` with the user's column names.

    Args:
        load_col: value in our property files.
        given: values from the user. If these exclude columns of a file (``unload_col``), all others
            are read.
    """
    names = {usual: given.get(key) or usual for key, usual in FIELDS.items()}
    unload = given.get("unload_col")
    unload = unload if isinstance(unload, dict) else {}
    return load_col and {
        file: ALL if file in unload else [names.get(column, column) for column in columns]
        for file, columns in load_col.items()
    }


def usual_names(given: dict) -> dict[str, str]:
    """The names in our property files of columns that a user renames, by the user's names."""
    named = {given.get(key) or usual: usual for key, usual in FIELDS.items()}
    return {own: usual for own, usual in named.items() if own != usual}
