import shlex

import pytest

from recbole_mm.cli import main
from recbole_mm.tools.command_lines import shell_line

WORDS = ["recbole-mm", "prepare", "my shop", "--name=it's", "--separator=|"]


def test_a_posix_shell_splits_the_line_into_the_words():
    assert shlex.split(shell_line(WORDS)) == WORDS


def test_on_windows_words_with_blanks_have_double_quotes(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")

    assert shell_line(WORDS[:3]) == 'recbole-mm prepare "my shop"'


@pytest.mark.parametrize(
    "command",
    [
        ["prepare", "shop.csv", "--images="],
        ["export", "a.pth", ""],
        ["prepare", " "],
        ["extract", "Toys", "--output="],
    ],
)
def test_an_empty_path_is_refused(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "the path is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, words",
    [
        (["prepare", "x", "--repeat=first"], "unknown option --repeat; did you mean --repeats?"),
        (["prepare", "x", "--no_features"], "did you mean --no-features?"),
        (["inspect", "x", "y"], "unknown argument y."),
        (["extract", "x", "--encodr", "y"], "did you mean --encoder?"),
        (["doctor", "--jsn"], "did you mean --json?"),
        (["prepare", "x", "--core=two"], "argument --core: invalid int value: 'two'."),
    ],
)
def test_a_mistake_is_told_in_one_line_with_the_option_that_was_meant(command, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(command)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"recbole-mm {command[0]}: error: ")
    assert f"{words} All options: recbole-mm {command[0]} --help" in line
