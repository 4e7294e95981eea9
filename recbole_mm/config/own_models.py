"""Models of the user: ``--model=my_module:MyModel``, or the class of an installed package.

The module is imported from the working directory or from the installed packages. Defaults and the
forms of the model's keys (:mod:`recbole_mm.config.forms`) are in ``MyModel.yaml`` or
``my_module.yaml`` next to it; a search space for ``recbole-mm tune`` is in ``MyModel.hyper``. A
package declares its models as entry points of the group ``recbole_mm.models``, each under the name
of its class::

    [project.entry-points."recbole_mm.models"]
    MyModel = "my_package.models:MyModel"

A module is named by a command, a program or a yaml file of the user, never by a checkpoint: this
contains only the name of the class, which the process must already know. The environment variable
:data:`VARIABLE` passes the named models on to the processes of a comparison or a search.
"""

import importlib
import importlib.util
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from recbole_mm.config.errors import ConfigError
from recbole_mm.tools.errors import UserError

ENTRY_POINTS = "recbole_mm.models"
"""Group of the entry points."""

VARIABLE = "RECBOLE_MM_MODELS"
"""Environment variable with the named models, as ``module:Class`` separated by commas."""


class OwnModel(NamedTuple):
    """A class outside this package.

    Attributes:
        module: module that defines it.
        name: name of the class, which becomes the name of the model.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def file(self, suffix: str) -> Path | None:
        """The file next to the module that is named after the class or the module, if there is one.

        Raises:
            ConfigError: the module does not exist.
        """
        folder = _folder(self)
        names = (self.name, self.module.rpartition(".")[2])
        files = [folder / f"{name}{suffix}" for name in names] if folder else []
        return next((file for file in files if file.is_file()), None)

    def load(self) -> type:
        """Import the module.

        Raises:
            ConfigError: the module cannot be imported, or has no such class.
        """
        _folder(self)
        try:
            module = importlib.import_module(self.module)
        except UserError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise ConfigError(
                f"model {str(self)!r}: its module cannot be imported: "
                f"{type(error).__name__}: {error} (--debug shows where)"
            ) from error
        found = getattr(module, self.name, None)
        if not isinstance(found, type):
            classes = [name for name, value in vars(module).items() if isinstance(value, type)]
            raise ConfigError(
                f"model {str(self)!r}: {self.module} has no class {self.name!r}; it has "
                f"{', '.join(classes) or 'no classes'}"
            )
        return found


def parse_own_model(text: str) -> OwnModel:
    """Read ``my_module:MyModel``.

    Raises:
        ConfigError: the text does not have this form.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        raise ConfigError(
            f"model {text!r}: write my_module:MyModel, for the class MyModel in my_module.py"
        )
    return OwnModel(*text.split(":"))


def remember(model: OwnModel) -> None:
    """Register a model in this process and in those that it starts.

    Raises:
        ConfigError: the module does not exist, or another model of this name is registered.
    """
    _folder(model)
    known = own_models()
    if known.setdefault(model.name, model) != model:
        raise ConfigError(
            f"model {str(model)!r}: {known[model.name]} has the same name; rename one of them"
        )
    os.environ[VARIABLE] = ",".join(map(str, known.values()))


def own_models() -> dict[str, OwnModel]:
    """The user's models that have been named, by name."""
    texts = filter(None, os.environ.get(VARIABLE, "").split(","))
    return {model.name: model for model in map(parse_own_model, texts)}


@cache
def installed_models() -> dict[str, OwnModel]:
    """The models that installed packages declare, by name. They are not imported."""
    from importlib.metadata import entry_points  # takes as long to import as everything else here

    return {
        point.attr: OwnModel(point.module, point.attr)
        for point in entry_points(group=ENTRY_POINTS)
        if point.attr
    }


def _folder(model: OwnModel) -> Path | None:
    """The folder of the module; ``None`` for one without a file, such as a notebook."""
    if model.module in sys.modules:
        file = getattr(sys.modules[model.module], "__file__", None)
        return Path(file).parent if file else None
    spec = _find_module(model.module)
    if spec is None and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that it hides no installed module
        importlib.invalidate_caches()
        spec = _find_module(model.module)
    if spec is None or not spec.origin:
        raise ConfigError(
            f"model {str(model)!r}: {model.module!r} is neither a module in the working directory "
            f"{os.getcwd()!r} nor an installed package"
        )
    return Path(spec.origin).parent


def _find_module(name: str):
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:  # the parent package is missing
        return None
