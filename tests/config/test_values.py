import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import parse_overrides, parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("-1", -1),
        ("None", None),
        ("~", None),
        ("True", True),
        ("false", False),
        ("[5,10]", [5, 10]),
        ("5,10", [5, 10]),
        ("[text, image]", ["text", "image"]),
        ("[*_layers.*, adapters.*]", ["*_layers.*", "adapters.*"]),
        ("[a, *_layers.*,]", ["a", "*_layers.*"]),
        ("*_layers.*", "*_layers.*"),
        ("{'LS': 'valid_and_test'}", {"LS": "valid_and_test"}),
        ("{LS: valid_and_test}", {"LS": "valid_and_test"}),
        ("[0,inf)", "[0,inf)"),
        ("saved/my run", "saved/my run"),
        ("1/0", "1/0"),
        ("sum", "sum"),
        ("2020-01-02", "2020-01-02"),
        ("a: b: c", "a: b: c"),
        ("2024-13-45", "2024-13-45"),
        (" ", " "),
        ("[" * 10_000, "[" * 10_000),
        ("", ""),
    ],
)
def test_an_option_is_read_as_the_value_that_it_looks_like(text, value):
    assert parse_value(text) == value


def test_an_option_may_stand_apart_from_its_value_and_hold_equal_signs_and_spaces():
    arguments = ["--checkpoint_dir=runs/lr=1e-3, seed 1", "--epochs", "2", "--seed", "-1"]

    assert parse_overrides(arguments) == {
        "checkpoint_dir": "runs/lr=1e-3, seed 1",
        "epochs": 2,
        "seed": -1,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epochs=2"], "'epochs=2' is not an option: write --key=value"),
        (["--epochs"], "--epochs has no value"),
        (["--epochs", "--seed=1"], "--epochs has no value"),
        (["--seed=1", "--seed=2"], "duplicate option --seed: 1 and 2"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_overrides(arguments)
