"""Registration of our models when RecBole is imported; until then, this package imports nothing."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from recbole_mm.tools.imports import execute_within
from recbole_mm.tools.recbole_version import missing_recbole, refuse_unknown_version


def open_door() -> None:
    """Register with RecBole now if it is loaded, else as soon as it is imported.

    Raises:
        RecBoleError: the loaded version is not supported, or a patch does not apply.
    """
    if "recbole" in sys.modules:
        refuse_unknown_version(sys.modules["recbole"].__version__)
        _before_import()
        _after_import()
    elif not any(isinstance(finder, _WithRecBole) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithRecBole())


def _before_import() -> None:
    importlib.import_module("recbole_mm.integration.patch_list").patch_before_import()


def _after_import() -> None:
    importlib.import_module("recbole_mm.integration.patch_list").patch_after_import()


class _WithRecBole:
    """Patches and registers around the first import of ``recbole``.

    Raises:
        RecBoleError: RecBole is missing or its version not supported, or a patch does not apply;
            raised by the import.
    """

    _searching = False

    def find_spec(self, fullname, *_):
        if fullname != "recbole" or self._searching:
            return None
        import importlib.util

        self._searching = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._searching = False
        if spec is None or spec.loader is None:
            raise missing_recbole()
        return execute_within(spec, self._patched)

    @contextmanager
    def _patched(self) -> Iterator[None]:
        _before_import()
        yield
        refuse_unknown_version(sys.modules["recbole"].__version__)
        _after_import()
        if self in sys.meta_path:
            sys.meta_path.remove(self)
