"""User-specified neuron groups for architectures that cannot be located automatically."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from hf_untangle.architecture.config_hints import stated_heads
from hf_untangle.architecture.neurons import KINDS, Kind, NeuronGroup
from hf_untangle.architecture.projections import input_width, is_projection
from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ArchitectureError


@checked_arguments
def groups_by_hand(model: nn.Module, named: Mapping[str, Kind]) -> tuple[NeuronGroup, ...]:
    """Make neuron groups of the output projections whose paths fit patterns.

    Args:
        model: The model.
        named: The kind by the pattern of the path, where `*` stands for anything.

    Returns:
        The groups in the order of the model's modules, without producers.

    Raises:
        ArchitectureError: A kind is unknown, or a pattern fits no projection.
    """
    projections = {name: module for name, module in model.named_modules() if is_projection(module)}
    kinds: dict[str, Kind] = {}
    for pattern, kind in named.items():
        fitting = [name for name in projections if fnmatchcase(name, pattern)]
        if kind not in KINDS or not fitting:
            raise ArchitectureError(
                f"Every pattern must fit the path of a linear projection and be of kind {' or '.join(KINDS)}, but "
                f"`{pattern}` of kind `{kind}` fits {len(fitting)}. "
                f"The last projection of this model is `{next(reversed(projections), None)}`."
            )
        kinds |= dict.fromkeys(fitting, kind)
    return tuple(_group(model, name, module, kinds[name]) for name, module in projections.items() if name in kinds)


def _group(model: nn.Module, name: str, projection: nn.Module, kind: Kind) -> NeuronGroup:
    """Make one group; its layer is the first number in its path."""
    number = re.search(r"\.(\d+)\.", name)
    layer, stack = (int(number[1]), name[: number.start()]) if number else (0, "")
    size = input_width(projection)
    heads = stated_heads(model, name) if kind == "attention" else None
    return NeuronGroup(name, kind, layer, size, (), heads if heads and size % heads == 0 else None, None, stack)
