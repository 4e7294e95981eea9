"""Modules that are executed inside a context when they are imported."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder


def execute_within(
    spec: ModuleSpec, context: Callable[[], AbstractContextManager[None]]
) -> ModuleSpec:
    """The spec of a module that is executed inside a context, made for it."""
    assert spec.loader is not None
    execute = spec.loader.exec_module

    def exec_module(module) -> None:
        with context():
            execute(module)

    spec.loader.exec_module = exec_module  # type: ignore[method-assign]
    return spec


class AroundImport(MetaPathFinder):
    """Executes a module, the first time that it is imported, inside a context.

    Args:
        name: of the module.
        context: made for the import.
    """

    def __init__(self, name: str, context: Callable[[], AbstractContextManager[None]]):
        self.name, self.context = name, context

    @classmethod
    def install(cls, name: str, context: Callable[[], AbstractContextManager[None]]) -> None:
        """Wait for the import of a module that is not imported yet."""
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
