"""Models without weights: what a configuration makes, in no more memory than a list of shapes."""

from copy import deepcopy
from functools import partial
from typing import Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights
from transformers.pytorch_utils import Conv1D

from hf_untangle.architecture.projections import bias_of, input_axis, is_projection, weight_of
from hf_untangle.architecture.sharding import own_class
from hf_untangle.errors import ArchitectureError

ROWS = 128
"""Rows of a weight that are copied at a time."""

Shapes = dict[str, tuple[int, ...]]
"""The shape of every parameter of a model, by its name."""


def skeleton(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Make a model whose parameters are on the meta device, and whose buffers are real.

    Args:
        model_class: The class of the model.
        config: Its configuration, which is left as it is.

    Returns:
        The model, in evaluation mode.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(), no_init_weights(), catch_warnings():
        # An FFN that was removed whole has the width 0.
        filterwarnings("ignore", "Initializing zero-element tensors", UserWarning)
        return model_class._from_config(deepcopy(config)).eval()


def shapes_of(model: nn.Module) -> Shapes:
    """List the shapes of a model's parameters.

    Args:
        model: Any model.

    Returns:
        Shapes by name; tied parameters have several names.
    """
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters(remove_duplicate=False)}


def hollow(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """Make a model that runs, and that `neuron_groups` understands, in next to no memory.

    Every weight is a Hankel matrix of noise, w[i, j] = noise[i + j]: a view that overlaps itself, which takes rows + columns
    numbers instead of rows x columns. Where neurons are does not depend on weights, so nothing is lost.

    Args:
        model_class: The class of the model.
        config: Its configuration.

    Returns:
        The model, in evaluation mode; its weights must not be written to.
    """
    model = skeleton(model_class, config)
    for module in model.modules():
        own: Any = vars(module).get("config")
        if hasattr(own, "_experts_implementation_internal"):
            # The others multiply by all experts at once, which weights that overlap themselves do not allow. Layers that
            # differ in width have configurations of their own, which `set_experts_implementation` does not reach.
            own._experts_implementation_internal = "eager"
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(_hankel(parameter, generator), requires_grad=False))
        # Some routers are projections with more to their pass.
        if is_projection(module) and type(module).forward in (nn.Linear.forward, Conv1D.forward):
            module.forward = partial(_project_in_slices, module)
    return model


def twin_of(model: nn.Module) -> PreTrainedModel:
    """Make a hollow twin of a model that cannot be looked into, as its weights come and go.

    Args:
        model: A model from transformers.

    Returns:
        A model whose modules have the same names and do the same.

    Raises:
        ArchitectureError: The configuration of the model makes another one.
    """
    twin = hollow(own_class(model), model.config) if isinstance(model, PreTrainedModel) else None
    if twin is None or shapes_of(twin) != shapes_of(model):
        raise ArchitectureError(
            f"The neurons of a model that is offloaded or sharded are found from its configuration, but that of this "
            f"{type(model).__name__} does not make a model of the same parameters. Find them on the loaded model first, and "
            "pass them as `groups=`."
        )
    return twin


def _project_in_slices(projection: nn.Module, states: Tensor) -> Tensor:
    """Project with a few rows of the weight at a time: a matrix product copies a weight that overlaps itself."""
    slices = weight_of(projection).split(ROWS, dim=1 - input_axis(projection))
    rows = [part if input_axis(projection) == 1 else part.T for part in slices]
    output = torch.cat([nn.functional.linear(states, part) for part in rows], -1)
    bias = bias_of(projection)
    return output if bias is None else output + bias


def _hankel(parameter: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of a shape, each axis one step of the same few numbers: around 0 in matrices, and around 1 in vectors."""
    noise = torch.randn(1 + sum(max(size - 1, 0) for size in parameter.shape), generator=generator)
    noise = noise / max(parameter.shape[-1], 1) ** 0.5 if parameter.ndim > 1 else 1 + 0.1 * noise
    return noise.to(parameter.dtype).as_strided(parameter.shape, [1] * parameter.ndim)
