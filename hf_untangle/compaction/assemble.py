"""Putting the smaller model together: its modules from the smaller configuration, its tensors from the larger model."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.compaction.edits import Edit, Edits

Rename = Callable[[str], str | None]
"""The name of a tensor in the smaller model; None where it goes."""


def _same(name: str) -> str:
    """Every tensor keeps its name."""
    return name


def assemble(model: PreTrainedModel, config: PreTrainedConfig, edits: Edits, rename: Rename = _same) -> PreTrainedModel:
    """Make the smaller model.

    Args:
        model: The larger one, which is left as it was.
        config: The configuration of the smaller one.
        edits: What becomes of the parameters that change; all others are shared.
        rename: What each tensor is called in the smaller model.

    Returns:
        The smaller model.
    """
    # Tied parameters are one object in the model, and one again in the smaller one.
    made: dict[int, Tensor] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in edits and id(parameter) not in made and rename(name) is not None:
            made[id(parameter)] = nn.Parameter(edits[name].apply(parameter), requires_grad=parameter.requires_grad)
    made |= {id(one): edits[name].apply(one) for name, one in model.named_buffers() if name in edits}
    small = _with_tensors_of(model, config, made, rename)
    if hasattr(model, "generation_config"):
        small.generation_config = deepcopy(model.generation_config)
    return small.train(model.training)


def assemble_lazily(twin: PreTrainedModel, config: PreTrainedConfig, edits: Edits) -> PreTrainedModel:
    """Make the smaller model of a hollow one: what changes is made when a module runs, and dropped when it has run.

    Args:
        twin: A hollow model, whose tensors take no memory.
        config: The configuration of the smaller one.
        edits: What becomes of the parameters that change.

    Returns:
        The smaller model, never larger in memory than the largest of its tensors.
    """
    small = _with_tensors_of(twin, config, {}, _same)
    for name, edit in edits.items():
        path, _, own = name.rpartition(".")
        module, parameter = small.get_submodule(path), twin.get_parameter(name)
        module.register_forward_pre_hook(partial(_fill, own, edit, parameter))
        module.register_forward_hook(partial(_empty, own, parameter))
    return small


def _with_tensors_of(
    model: PreTrainedModel, config: PreTrainedConfig, made: dict[int, Tensor], rename: Rename
) -> PreTrainedModel:
    """A model with the parameters and buffers of another, some of which are replaced, or go."""
    small = skeleton(type(model), config)
    small.name_or_path = model.name_or_path
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (new := rename(name)) is not None:
            path, _, own = new.rpartition(".")
            setattr(small.get_submodule(path), own, made.get(id(parameter), parameter))
    for name, buffer in model.named_buffers(remove_duplicate=False):
        if (new := rename(name)) is not None:
            path, _, own = new.rpartition(".")
            small.get_submodule(path)._buffers[own] = made.get(id(buffer), buffer)
    return small


def _fill(own: str, edit: Edit, parameter: Tensor, module: nn.Module, _: tuple[Any, ...]) -> None:
    """Give a module the tensor that it is about to use."""
    setattr(module, own, nn.Parameter(edit.apply(parameter), requires_grad=False))


def _empty(own: str, parameter: nn.Parameter, module: nn.Module, *_: Any) -> None:
    """Take it back."""
    setattr(module, own, parameter)
