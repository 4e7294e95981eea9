import importlib
import sys
from contextlib import contextmanager, nullcontext

import pytest

from recbole_mm.tools.imports import AroundImport


def test_a_module_is_executed_in_its_context_once(monkeypatch, tmp_path):
    (tmp_path / "late_module.py").write_text("import sys\nseen = list(sys.modules['marker'])\n")
    monkeypatch.syspath_prepend(tmp_path)
    marker = []
    monkeypatch.setitem(sys.modules, "marker", marker)

    @contextmanager
    def context():
        marker.append("before")
        yield
        marker.append("after")

    AroundImport.install("late_module", context)
    AroundImport.install("late_module", context)  # there is one already
    assert AroundImport.waits_for("late_module")

    assert importlib.import_module("late_module").seen == ["before"]
    assert marker == ["before", "after"]
    assert not AroundImport.waits_for("late_module")
    AroundImport.install("late_module", context)  # it is imported
    assert not AroundImport.waits_for("late_module")
    monkeypatch.delitem(sys.modules, "late_module")


def test_a_module_that_does_not_exist_is_missing_as_ever():
    AroundImport.install("no_such_module", nullcontext)

    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module'"):
        importlib.import_module("no_such_module")
    assert not AroundImport.waits_for("no_such_module")
