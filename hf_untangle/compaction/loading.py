"""Loading checkpoints whose layers differ in width, with plain `from_pretrained`.

A configuration can say how wide each layer is (`config.per_layer_config`), but the models of transformers read one width for
all of them. So whenever a model is made from such a configuration, the classes of its module that take a configuration and
the number of a layer are taught to read that layer's own. Models with one width for all layers are made as ever.

`transformers.monkey_patching.register_patch_mapping` would put subclasses in the place of those classes. It is not used, as
it reaches no class that a module keeps in a table, and models made without `from_pretrained` then lose their hidden states.

Nothing of transformers is imported here before the program imports it: `teach_transformers` is called by `import hf_untangle`.
"""

import sys
from collections.abc import Callable
from functools import cache, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any
from warnings import catch_warnings, filterwarnings

HOME = "transformers.modeling_utils"
"""The module that every model of transformers is made with."""
NATIVE = "apply_heterogeneous_modeling"
"""What a transformers that reads per-layer widths itself has in its integration of heterogeneous models."""
LAYER_NUMBERS = ("layer_idx", "layer_id", "layer_number")
"""What constructors of layers call the number of the layer."""


def teach_transformers() -> None:
    """Let transformers make models whose layers differ in width: now, or as soon as the program imports it.

    Also the entry point of vLLM's general plugins, which runs it in every process of vLLM.
    """
    loaded = sys.modules.get(HOME)
    if loaded is not None and hasattr(loaded, "PreTrainedModel"):
        _teach(loaded)
    elif not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())


class _Watcher(MetaPathFinder):
    """Waits for the program's import of transformers' models."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the usual finders find the module, and teach it once it has run."""
        if fullname != HOME:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_teach(module: ModuleType) -> None:
                run(module)
                _teach(module)

            spec.loader.exec_module = run_and_teach
        return spec


def _teach(modeling_utils: ModuleType) -> None:
    """Have every model look at its configuration first, unless transformers reads per-layer widths itself."""
    from transformers.integrations import heterogeneity

    model_class = modeling_utils.PreTrainedModel
    if hasattr(heterogeneity, NATIVE) or hasattr(model_class.__init__, "__wrapped__"):
        return
    make = model_class.__init__

    @wraps(make)
    def make_with_own_widths(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        if getattr(config, "is_heterogeneous", False):
            teach_layers(sys.modules[type(self).__module__])
        make(self, config, *args, **kwargs)

    model_class.__init__ = make_with_own_widths


@cache
def teach_layers(module: ModuleType) -> None:
    """Let the layers that a module defines read their own part of a configuration.

    Modules that ask for per-layer configurations themselves, such as Gemma 4's, are left alone.

    Args:
        module: A module of transformers that defines models.
    """
    from inspect import getsource, signature

    if "per_layer_config" in getsource(module):
        return
    for layer_class in vars(module).values():
        make = vars(layer_class).get("__init__") if isinstance(layer_class, type) else None
        if make is None or hasattr(make, "_reads_own_layer"):
            continue
        names = signature(make).parameters
        number = next((name for name in LAYER_NUMBERS if name in names), None)
        if number is not None and "config" in names:
            layer_class.__init__ = _with_own_config(make, number)


def _with_own_config(make: Callable[..., None], number: str) -> Callable[..., None]:
    """A constructor that hands the configuration of its own layer to the one it stands for."""
    from inspect import signature

    parameters = signature(make)

    @wraps(make)
    def make_layer(*args: Any, **kwargs: Any) -> None:
        call = parameters.bind(*args, **kwargs)
        config: Any = call.arguments.get("config")
        layer = call.arguments.get(number)
        # An inner module is handed what its layer got, which has one width only, and passes this by.
        if getattr(config, "is_heterogeneous", False) and isinstance(layer, int):
            call.arguments["config"] = config.per_layer_config[layer]
        with catch_warnings():
            # An FFN that was removed whole has the width 0.
            filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
            make(*call.args, **call.kwargs)

    vars(make_layer)["_reads_own_layer"] = True
    return make_layer
