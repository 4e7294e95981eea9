import importlib
import sys

import pytest

from recbole_mm.cli import main
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import extra_needed, unfit_package


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it():
    message = r"^tune needs no_such_package: pip install 'recbole_mm\[tune\]'$"
    with pytest.raises(UserError, match=message), extra_needed("tune", "tune"):
        importlib.import_module("no_such_package")


def test_a_missing_module_of_our_own_is_not_blamed_on_an_extra():
    with pytest.raises(ModuleNotFoundError), extra_needed("tune", "tune"):
        importlib.import_module("recbole_mm.no_such_module")


def failing_import(code, monkeypatch, tmp_path):
    """What the import of a package raises."""
    (tmp_path / "some_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "some_package", raising=False)
    with pytest.raises(ImportError) as raised:
        importlib.import_module("some_package")
    return raised.value


@pytest.mark.parametrize(
    ("code", "package"),
    [
        ("raise ImportError('needs numpy 2')", "some_package"),
        ("import no_such_package", "no_such_package"),
        ("from json import no_such_name", "json"),
        ("from recbole_mm import no_such_name", None),
    ],
)
def test_the_package_that_cannot_be_imported(code, package, monkeypatch, tmp_path):
    assert unfit_package(failing_import(code, monkeypatch, tmp_path)) == package


def test_a_command_names_the_package_that_cannot_be_imported(monkeypatch, tmp_path, capsys):
    error = failing_import("raise ImportError('needs numpy 2')", monkeypatch, tmp_path)

    def fail(_):
        raise error

    monkeypatch.setattr("recbole_mm.doctor.command.main", fail)
    assert main(["doctor"]) == 2
    message = capsys.readouterr().err
    assert "some_package cannot be imported here: needs numpy 2." in message
    assert "constraints.txt" in message and "Traceback" not in message
