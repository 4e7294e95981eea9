"""What the model card says about the data of training and pre-training, and about their terms."""

from recbole_mm.data.training_data import Record

NO_TERMS = "none are recorded"
ADVICE = (
    "Terms are as stated in the card of each data set. Read them, and look up those that are not "
    "recorded, before you share the model."
)


def terms_of_data(records: list[Record]) -> str:
    """A section of the card; empty without records.

    Args:
        records: records of :mod:`recbole_mm.data.training_data`, the first pre-training first.
    """
    if not records:
        return ""
    stages = [
        f"{number}. {_stage(record, number == 1)}" for number, record in enumerate(records, 1)
    ]
    terms: dict[str, str | None] = {}
    for record in records:
        terms |= {name: text or terms.get(name) for name, text in record["terms"].items()}
    rows = [f"| {_code(name)} | {_cell(text or NO_TERMS)} |" for name, text in terms.items()]
    table = "\n".join(["| data set | terms |", "|---|---|", *rows])
    parts = [
        "## Training data sets and their terms",
        "\n".join(stages),
        *([table] if rows else []),
        ADVICE,
    ]
    return "\n\n".join(parts)


def _stage(record: Record, is_first: bool) -> str:
    kind = "trained on" if is_first else "fine-tuned on"
    if record["stage"] == "pretrain":
        kind = "pre-trained on"
    if record["name"] is None:
        return f"{kind} data that the checkpoint does not name"
    text = f"{kind} {_code(record['name'])}"
    if record["domains"]:
        text += f", a mixture of the domains {_listing(record['domains'])}"
    if record["without_users_of"]:
        text += (
            f", without the users of {_listing(record['without_users_of'])} (`exclude_users_of`)"
        )
    return text


def _listing(names: list[str]) -> str:
    *others, last = map(_code, names)
    return f"{', '.join(others)} and {last}" if others else last


def _code(name: str) -> str:
    return f"`{_cell(name).replace('`', '')}`"


def _cell(text: str) -> str:
    """Text as a cell of a table: on one line, with escaped bars."""
    return " ".join(text.split()).replace("|", "\\|")
