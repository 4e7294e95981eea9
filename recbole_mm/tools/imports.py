"""Modules that are executed inside a context manager when they are imported."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder


def execute_within(
    spec: ModuleSpec, context: Callable[[], AbstractContextManager[None]]
) -> ModuleSpec:
    """Change the spec of a module so that it is executed inside a new context."""
    assert spec.loader is not None
    execute = spec.loader.exec_module

    def exec_module(module) -> None:
        with context():
            execute(module)

    spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


class AroundImport(MetaPathFinder):
    """Executes a module inside a context when it is first imported.

    Args:
        name: name of the module.
        context: function that creates the context for the import.
    """

    def __init__(self, name: str, context: Callable[[], AbstractContextManager[None]]):
        self.name, self.context = name, context

    @classmethod
    def install(cls, name: str, context: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait for the import of a module, unless it is already imported."""
        if name not in sys.modules and not cls.waits_for(name):
            sys.meta_path.insert(0, cls(name, context))

    @classmethod
    def waits_for(cls, name: str) -> bool:
        """Whether a finder for this module is installed."""
        return any(isinstance(finder, cls) and finder.name == name for finder in sys.meta_path)

    def find_spec(self, fullname, path=None, _=None):
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        return spec and execute_within(spec, self.context)
