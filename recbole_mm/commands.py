"""The commands of ``recbole-mm``."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command: the module with its ``main(arguments) -> exit status``, and what it does."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("recbole_mm.run.command", "train and test a model (also without this word)"),
    "prepare": Command(
        "recbole_mm.prepare.commands.prepare", "make a data set from your own tables"
    ),
    "amazon": Command("recbole_mm.prepare.commands.amazon", "make a data set from Amazon reviews"),
    "convert": Command(
        "recbole_mm.prepare.commands.convert", "convert the processed folders of papers"
    ),
    "extract": Command(
        "recbole_mm.prepare.commands.extract", "make feature files from texts and pictures"
    ),
    "tune-encoder": Command(
        "recbole_mm.encoder_tuning.command", "tune a text encoder on users' next items"
    ),
    "mix": Command("recbole_mm.prepare.commands.mix", "join data sets for pre-training"),
    "inspect": Command("recbole_mm.prepare.commands.inspect", "check a data set before training"),
    "compare": Command("recbole_mm.compare.command", "compare models on one split, with a report"),
    "tune": Command("recbole_mm.tuning.command", "search for settings by validation score"),
    "recommend": Command(
        "recbole_mm.recommend.command", "recommend items to any user with a trained model"
    ),
    "similar": Command(
        "recbole_mm.recommend.similar_command", "find the most similar items of each item"
    ),
    "export": Command(
        "recbole_mm.recommend.export", "save a trained model as a bundle that can be shared"
    ),
    "serve": Command(
        "recbole_mm.recommend.serve", "serve a trained model as a web page and over HTTP"
    ),
    "doctor": Command(
        "recbole_mm.doctor.command", "check the installation, for yourself or for a bug report"
    ),
    "transfer-report": Command(
        "recbole_mm.transfer_report.command", "compare transfer with its controls"
    ),
}
