"""Options that several commands share."""

import argparse
from pathlib import Path

from recbole_mm.config.columns import FIELDS
from recbole_mm.prepare.fields import ITEM_FIELDS
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.command_lines import CommandParser, path_argument, shell_line

KEY_COLUMN = "item column of the table of items [that of --item-column]"
"""Help of ``--key-column``."""
MODALITIES = ("text", "image")
"""Modalities that encoders make features of."""


def parser_of(command: str, description: str) -> argparse.ArgumentParser:
    """A parser for ``recbole-mm <command>`` whose help starts with the unchanged description."""
    return CommandParser(prog=f"recbole-mm {command}", description=description)


def command_line(command: str, arguments: list[str]) -> str:
    """The command as a user would write it."""
    return shell_line(["recbole-mm", command, *arguments])


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add ``--output``, the folder of the data sets."""
    parser.add_argument(
        "--output",
        type=path_argument,
        default=Path("dataset"),
        metavar="FOLDER",
        help="folder of the data sets [dataset]",
    )


def add_encoder(parser) -> None:
    """Add ``--encoder`` and ``--modalities`` to a parser or to a group of its options."""
    parser.add_argument(
        "--encoder",
        help="encoder of texts and pictures: a model on the Hugging Face hub, or a folder "
        "[embedded: no weights]; recbole-mm extract --help says which models work",
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        choices=MODALITIES,
        default=list(MODALITIES),
        help="features to make [text image]",
    )


def add_like(parser) -> None:
    """Add ``--like`` to a parser or to a group of its options."""
    parser.add_argument(
        "--like",
        metavar="DATASET|BUNDLE",
        help="make features by the very encoder, for embedded features in the very space, of those of "
        "a data set (its name or folder; also the one that is made again) or of a bundle from "
        "recbole-mm export, so that a model trained on these reads the new ones",
    )


def add_item_text(add_to) -> None:
    """Add ``--item-text``, the columns of texts and pictures, to a parser or to a group of its
    options."""
    add_to.add_argument(
        "--item-text",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"column of an item's {', '.join(ITEM_FIELDS)} [columns of these names]; may be repeated",
    )


def parse_item_text(options: list[str], hint: str = "") -> dict[str, str | None]:
    """The column of each field that ``--item-text`` names.

    Args:
        options: values of the option.
        hint: end of the message, what else a user may want.

    Raises:
        InputError: a field is unknown, or has no column.
    """
    given: dict[str, str | None] = dict(pairs(options))
    unknown = sorted(set(given) - set(ITEM_FIELDS))
    if unknown or not all(given.values()):
        raise InputError(
            f"--item-text {' '.join(options)}: expected FIELD=COLUMN with a FIELD of "
            f"{', '.join(ITEM_FIELDS)}{hint}."
        )
    return given


def add_fields(parser: argparse.ArgumentParser) -> None:
    """Add ``--USER_ID_FIELD`` and the like, named as in training."""
    for key, usual in FIELDS.items():
        parser.add_argument(
            f"--{key}",
            metavar="COLUMN",
            help=f"column of the .inter file, if it is not {usual!r}, as in training",
        )


def pairs(options: list[str]) -> list[tuple[str, str]]:
    """``NAME=VALUE`` options as pairs; the value may contain ``=``, and is empty without one."""
    return [(name, value) for name, _, value in (option.partition("=") for option in options)]
