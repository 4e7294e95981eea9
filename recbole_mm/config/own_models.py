"""Models of the user: ``--model=my_module:MyModel``, or the class of an installed package.

The module is imported from the working directory or from the installed packages. Defaults and the
forms of the model's keys (:mod:`recbole_mm.config.forms`) are in ``MyModel.yaml`` or
``my_module.yaml`` beside it, a search space for ``recbole-mm tune`` in ``MyModel.hyper``. A package
declares its models as entry points of the group ``recbole_mm.models``, each under the name of its
class::

    [project.entry-points."recbole_mm.models"]
    MyModel = "my_package.models:MyModel"

A module is named by a command, a program or a yaml file of the user's, never by a checkpoint: that
holds the name of the class, which this process must know already. The environment variable
:data:`VARIABLE` hands the models that were named on to the processes of a comparison or a search.
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
"""Environment variable with the models that were named, ``module:Class`` with commas between."""


class OwnModel(NamedTuple):
    """A class outside this package.

    Attributes:
        module: that has it.
        name: of the class, by which the model is known from then on.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"

    def file(self, suffix: str) -> Path | None:
        """The file beside the module that is named after the class or the module, if there is one.

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
            ConfigError: it cannot be imported, or has no such class.
        """
        _folder(self)
        try:
            module = importlib.import_module(self.module)
        except UserError:
            raise
        except Exception as error:  # whatever the user's code raises
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
        ConfigError: it is written in another way.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", text):
        raise ConfigError(
            f"model {text!r}: write my_module:MyModel, for the class MyModel in my_module.py"
        )
    return OwnModel(*text.split(":"))


def remember(model: OwnModel) -> None:
    """Make a model known to this process and to those that it starts.

    Raises:
        ConfigError: the module does not exist, or another model of this name is known.
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
    """The models that installed packages declare, by name. Nothing of them is imported."""
    from importlib.metadata import entry_points  # takes as long to import as all else here

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
        sys.path.append(os.getcwd())  # last, so that no installed module is hidden
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
    except ModuleNotFoundError:  # of the package around it
        return None
