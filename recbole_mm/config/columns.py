"""The columns of the atomic files that are read unless a user names others."""

FIELDS = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "TIME_FIELD": "timestamp"}
"""RecBole's keys for the names of columns, and the names in our property files."""

ALL = "*"
"""In ``load_col``: every column of a file."""


def follow_fields(load_col, given: dict):
    """The default of ``load_col`` under the names that a user has for the columns.

    Args:
        load_col: of our property files.
        given: what the user gives. With columns of a file that are not to be read (``unload_col``),
            all others are.
    """
    names = {usual: given.get(key) or usual for key, usual in FIELDS.items()}
    unload = given.get("unload_col")
    unload = unload if isinstance(unload, dict) else {}
    return load_col and {
        file: ALL if file in unload else [names.get(column, column) for column in columns]
        for file, columns in load_col.items()
    }


def usual_names(given: dict) -> dict[str, str]:
    """The names in our property files of columns that a user calls otherwise, by the user's."""
    named = {given.get(key) or usual: usual for key, usual in FIELDS.items()}
    return {own: usual for own, usual in named.items() if own != usual}
