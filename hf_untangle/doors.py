"""Doors: the public names of a room, listed in the stub beside its `__init__.py` and imported when they are first used."""

import ast
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package whose public names are those of its stub.

    A public name may also be the name of the module that defines it (`statistics.collect` lives in `statistics/collect.py`).
    Importing that module binds it to the package, so assignment looks through it to the public object.
    """

    _homes: dict[str, str]
    """The module of each public name."""

    def __getattr__(self, name: str) -> Any:
        """Import a public name from its module, or another room."""
        if name == "__version__":
            from importlib.metadata import version

            return version("hf-untangle")
        home = self._homes.get(name)
        if home is None:
            raise AttributeError(f"{self.__name__} has no `{name}`; its public names are {', '.join(self.__all__)}")
        value = import_module(f"{self.__name__}.{name}") if home == name else getattr(import_module(home), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep a public name bound to the public object when the module of the same name is imported."""
        if isinstance(value, ModuleType) and self._homes.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        """What completion offers."""
        return self.__all__


def open_door(room: str) -> None:
    """Make the public names of a room importable from it.

    Args:
        room: The `__name__` of the package, which has an `__init__.pyi` with lines such as
            `from hf_untangle.masks.mask import NeuronMask as NeuronMask`.
    """
    module = sys.modules[room]
    stub = ast.parse(Path(str(module.__file__)).with_suffix(".pyi").read_text("utf-8"))
    homes: dict[str, str] = {}
    for node in stub.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {str(each.asname): node.module for each in node.names}
        elif isinstance(node, ast.Import):
            homes |= {str(each.asname): str(each.asname) for each in node.names}
    vars(module).update(_homes=homes, __all__=sorted(homes))
    module.__class__ = Room
