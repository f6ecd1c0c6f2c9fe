"""The towers of models that read images beside text: which of their layers are those of images."""

from dataclasses import replace
from typing import Literal, get_args

from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.trace import find_blocks
from hf_untangle.errors import ConfigError

Tower = Literal["text", "vision", "all"]
"""The layers that read text, those that read images, or both."""


def check_tower(tower: str | None) -> None:
    """Refuse a tower that there is not.

    Args:
        tower: What was given.

    Raises:
        ConfigError: It is neither None nor a tower.
    """
    if tower is not None and tower not in get_args(Tower):
        raise ConfigError(f"tower must be one of {', '.join(get_args(Tower))}, got {tower!r}. Or leave it out.")


def image_towers(model: nn.Module) -> list[str]:
    """List the parts of a model that read images.

    Args:
        model: Any model.

    Returns:
        Paths of the outermost models inside it that have stacks of layers, and whose configuration is that of its images or
        whose input are pixels.
    """
    of_images = getattr(getattr(model, "config", None), "vision_config", None)
    found: list[str] = []
    for name, part in model.named_modules():
        if not name or not isinstance(part, PreTrainedModel) or any(name.startswith(f"{tower}.") for tower in found):
            continue
        its_config = of_images is not None and type(part.config) is type(of_images)
        if (its_config or part.main_input_name == "pixel_values") and find_blocks(part):
            found.append(name)
    return found


def is_inside(group: NeuronGroup, towers: list[str]) -> bool:
    """Tell whether a group is in one of some parts of a model.

    Args:
        group: The group.
        towers: Paths of the parts.

    Returns:
        Whether its stack of layers is inside one of them.
    """
    return any(group.stack.startswith(f"{tower}.") for tower in towers)


def named_from_outside(group: NeuronGroup, tower: str) -> NeuronGroup:
    """Name a group that was found in a part of a model by its path in the whole model.

    Args:
        group: The group.
        tower: Path of the part.

    Returns:
        The same group.
    """
    producers = tuple(replace(one, name=f"{tower}.{one.name}") for one in group.producers)
    return replace(group, name=f"{tower}.{group.name}", stack=f"{tower}.{group.stack}", producers=producers)
