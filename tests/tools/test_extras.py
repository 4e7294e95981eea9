import importlib

import pytest

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import extra_needed


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it():
    message = r"^tune needs no_such_package: pip install 'recbole_mm\[tune\]'$"
    with pytest.raises(UserError, match=message), extra_needed("tune", "tune"):
        importlib.import_module("no_such_package")


def test_a_missing_module_of_our_own_is_not_blamed_on_an_extra():
    with pytest.raises(ModuleNotFoundError), extra_needed("tune", "tune"):
        importlib.import_module("recbole_mm.no_such_module")
