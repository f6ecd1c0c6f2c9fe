"""Loading checkpoints whose layers differ in width, with plain `from_pretrained`.

A configuration can say how wide each layer is (`config.per_layer_config`), but the models of transformers read one width for
all of them. So whenever a model is made from such a configuration, the classes of its module that take a configuration and
the number of a layer are taught to read that layer's own. Models with one width for all layers are made as before.

A ragged checkpoint is of no use to a transformers that was not told so, and would fail there on the shape of some tensor. Its
configuration therefore names the missing call among the numbers of its layers, where transformers' own error shows it.

`transformers.monkey_patching.register_patch_mapping` would substitute subclasses for those classes. It is not used, as
it reaches no class that a module keeps in a table, and models made without `from_pretrained` then lose their hidden states.
"""

import sys
from collections.abc import Callable
from functools import cache, wraps
from types import ModuleType
from typing import Any
from warnings import catch_warnings, filterwarnings

MISSING_CALL = "to load layers of different widths, call hf_untangle.compaction.enable_ragged_checkpoints() first"
"""Stands among the layers of a ragged configuration: transformers' error shows it where the call is missing."""
NATIVE = "apply_heterogeneous_modeling"
"""What a transformers that reads per-layer widths itself has in its integration of heterogeneous models."""
LAYER_NUMBERS = ("layer_idx", "layer_id", "layer_number")
"""What constructors of layers call the number of the layer."""


def enable_ragged_checkpoints() -> None:
    """Let transformers load and save models whose layers differ in width, in this process.

    Loaders of this package call it themselves. It is also the entry point of vLLM's general plugins, which runs it in every
    process of vLLM. A transformers that reads per-layer widths itself is left alone, except that it passes over the name of
    this function in configurations.
    """
    from transformers import PreTrainedModel
    from transformers.integrations import heterogeneity
    from transformers.integrations.heterogeneity import configuration_utils

    mixin = configuration_utils.HeterogeneousConfigMixin
    if hasattr(mixin._update_heterogeneous_to_dict_output, "__wrapped__"):
        return
    configuration_utils._apply_heterogeneous_config = _without_missing_call(configuration_utils._apply_heterogeneous_config)
    if hasattr(heterogeneity, NATIVE):
        return
    mixin._update_heterogeneous_to_dict_output = _with_missing_call(mixin._update_heterogeneous_to_dict_output)
    PreTrainedModel.__init__ = _with_own_widths(PreTrainedModel.__init__)


def _without_missing_call(apply: Callable[..., None]) -> Callable[..., None]:
    """Read the widths of layers, and pass over the call that stands among them."""

    @wraps(apply)
    def read(config: Any, per_layer_config: dict[Any, Any]) -> None:
        apply(config, {layer: own for layer, own in per_layer_config.items() if layer != MISSING_CALL})

    return read


def _with_missing_call(update: Callable[..., None]) -> Callable[..., None]:
    """Write the widths of layers, and among them which call reads them."""

    @wraps(update)
    def write(config: Any, output: dict[str, Any]) -> None:
        update(config, output)
        if output.get("per_layer_config"):
            output["per_layer_config"][MISSING_CALL] = {}

    return write


def _with_own_widths(make: Callable[..., None]) -> Callable[..., None]:
    """Make models so that each layer reads its own widths."""

    @wraps(make)
    def make_model(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        if getattr(config, "is_heterogeneous", False):
            teach_layers(sys.modules[type(self).__module__])
        make(self, config, *args, **kwargs)

    return make_model


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
