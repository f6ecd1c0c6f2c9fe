"""The residual stream of a model: which axes of its tensors lie along it, and which norm hands it to what reads it.

Axes are those that change when the configuration is made for another hidden size; what reads which norm is seen in a pass.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.meta_models import shapes_of, skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import input_axis, is_projection, matrix_of, place_of
from hf_untangle.compaction.verify import random_inputs
from hf_untangle.errors import CompactionError

EPSILONS = ("variance_epsilon", "eps", "epsilon")
"""What norms may call the number that they add to the mean square."""


@dataclass(frozen=True, eq=False)
class Norm:
    """An RMS norm on the residual stream."""

    path: str
    scale: Float[Tensor, " channel"]
    """What it multiplies each channel by, in float64."""
    offset: float
    """What it adds to its weight for that: 0, or 1 as in Gemma."""
    epsilon: float
    """What it adds to the mean square."""
    epsilon_name: str | None
    """What its module calls that."""
    readers: tuple[str, ...]
    """The parameters that multiply what it gives; none where that goes back to the stream, as behind a block of Gemma 3."""


@dataclass(frozen=True, eq=False)
class ResidualStream:
    """What lies along the residual stream of a model."""

    width: int
    writing: dict[str, int]
    """Of parameters that write to the stream: the axis that runs over its channels."""
    reading: dict[str, int]
    """The same of those that read it, most of them through a norm."""
    norms: tuple[Norm, ...]

    @classmethod
    def of(cls, model: PreTrainedModel, groups: tuple[NeuronGroup, ...], narrower: PreTrainedConfig) -> "ResidualStream":
        """Find the stream.

        Args:
            model: The model.
            groups: Its neuron groups.
            narrower: Its configuration for another hidden size.

        Returns:
            The stream.

        Raises:
            CompactionError: A tensor depends on the hidden size in a way that is not understood.
        """
        sizes = (width_of(model), _width(narrower))
        before, after = shapes_of(model), shapes_of(skeleton(type(model), narrower))
        writing: dict[str, int] = {}
        reading: dict[str, int] = {}
        scales: dict[str, nn.Module] = {}
        for name, axis in _changed(model, before, after, sizes):
            path, _, leaf = name.rpartition(".")
            module = model.get_submodule(path)
            if _is_norm(module, model.get_parameter(name)):
                scales[path] = module
            elif _writes(model, module, name, leaf, axis):
                writing[name] = axis
            else:
                reading[name] = axis
        if not scales:
            raise CompactionError(
                f"The residual stream of this {type(model).__name__} must be read through norms with a scale for each channel, "
                "but there are none. Take neurons, heads or layers out instead."
            )
        _check_heads(model, groups, reading)
        seen = _readers(model, scales, reading)
        norms = (_norm(path, module, tuple(seen[path])) for path, module in scales.items())
        return cls(sizes[0], writing, reading, tuple(norms))

    def norm_of(self, parameter: str) -> Norm | None:
        """Find the norm through which a parameter reads the stream.

        Args:
            parameter: Its name.

        Returns:
            The norm; None for what reads the stream as it is, or does not read it.
        """
        return next((norm for norm in self.norms if parameter in norm.readers), None)


def narrower_config(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], size: int) -> PreTrainedConfig:
    """Write a configuration for another hidden size, and leave heads and FFNs as wide as they are.

    Args:
        model: The model.
        groups: Its neuron groups.
        size: The other hidden size.

    Returns:
        The configuration.

    Raises:
        CompactionError: No setting makes such a model.
    """
    config = deepcopy(model.config)
    text = config.get_text_config()
    heads = {group.head_size for group in groups if group.kind == "attention" and group.heads}
    text.hidden_size = size
    if vars(text).get("head_dim") is None and len(heads) == 1:
        text.head_dim = heads.pop()
    reason = "its tensors have other names"
    try:
        config.validate()
        made = skeleton(type(model), config)
        made.initialize_weights()
        if shapes_of(made).keys() == shapes_of(model).keys():
            return config
    except Exception as error:  # Constructors refuse in ways of their own, and any of them means no.
        reason = next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
    raise CompactionError(
        f"The configuration of this {type(model).__name__} must make a model with a hidden size of {size}, but it does not "
        f"({reason.rstrip('.')}). Try a multiple of the number of heads, or take neurons, heads or layers "
        "out instead."
    )


def width_of(model: PreTrainedModel) -> int:
    """Read how wide the residual stream of a model is.

    Args:
        model: The model.

    Returns:
        Channels.
    """
    return _width(model.config)


def _width(config: PreTrainedConfig) -> int:
    """The hidden size in a configuration, whatever it is called there."""
    return cast(int, config.get_text_config().hidden_size)


def _changed(
    model: PreTrainedModel, before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], sizes: tuple[int, int]
) -> Iterator[tuple[str, int]]:
    """Every parameter with its axis along the stream."""
    for name, shape in before.items():
        axes = [axis for axis, (old, new) in enumerate(zip(shape, after[name], strict=True)) if old != new]
        if not axes:
            continue
        if len(axes) > 1 or (shape[axes[0]], after[name][axes[0]]) != sizes:
            raise CompactionError(
                f"Tensors must depend on the hidden size of {sizes[0]} by one axis of that size, but `{name}` of this "
                f"{type(model).__name__} has the shape {list(shape)} and would get {list(after[name])}. Take neurons, heads or "
                "layers out instead."
            )
        yield name, axes[0]


def _is_norm(module: nn.Module, parameter: Tensor) -> bool:
    """Tell whether a parameter is the scale of a norm: a vector of a module that is neither a projection nor an embedding."""
    return parameter.ndim == 1 and not is_projection(module) and not isinstance(module, nn.Embedding)


def _writes(model: nn.Module, module: nn.Module, name: str, leaf: str, axis: int) -> bool:
    """Tell whether an axis of a parameter runs over what is written, and not over what is read."""
    if isinstance(module, nn.Embedding):
        return True
    if is_projection(module):
        return leaf == "bias" or axis != input_axis(module)
    parameter = model.get_parameter(name)
    if parameter.ndim == 3:  # noqa: PLR2004 (one matrix per expert)
        return axis == (2 if matrix_of(model, name).transposed else 1)
    return leaf.endswith("bias")


def _check_heads(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], reading: dict[str, int]) -> None:
    """Refuse a model whose blocks are as wide as the stream, so that they would shrink with it."""
    for group in groups:
        if place_of(model, group.name).weight in reading:
            raise CompactionError(
                f"Blocks must keep their width when the hidden size changes, but what `{group.name}` of this "
                f"{type(model).__name__} reads would shrink with it. Take neurons, heads or layers out instead."
            )


@torch.no_grad()
def _readers(model: PreTrainedModel, norms: dict[str, nn.Module], reading: dict[str, int]) -> dict[str, list[str]]:
    """See in a pass which parameters are given what each norm gives."""
    given: dict[int, str] = {}
    held: list[Tensor] = []
    found: dict[str, list[str]] = {path: [] for path in norms}
    readers: dict[str, list[str]] = {}
    for name in reading:
        readers.setdefault(name.rpartition(".")[0], []).append(name)

    def note(path: str, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            # Held, so that nothing else takes its place in memory before the pass is over.
            held.append(output)
            given[output.untyped_storage().data_ptr()] = path

    def look(path: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for value in (*args, *kwargs.values()):
            norm = given.get(value.untyped_storage().data_ptr()) if isinstance(value, Tensor) else None
            if norm is not None:
                found[norm] += [name for name in readers[path] if name not in found[norm]]

    with evaluation_mode(model), ExitStack() as hooks:
        for path, module in norms.items():
            hooks.callback(module.register_forward_hook(partial(note, path)).remove)
        for path in readers:
            hook = model.get_submodule(path).register_forward_pre_hook(partial(look, path), with_kwargs=True)
            hooks.callback(hook.remove)
        model(**random_inputs(model))
    several = [name for name in reading if sum(name in names for names in found.values()) > 1]
    if several:
        raise CompactionError(
            f"Each tensor must read the residual stream through one norm, but `{several[0]}` of this {type(model).__name__} "
            "reads it through several. Take neurons, heads or layers out instead."
        )
    return found


def _norm(path: str, module: nn.Module, readers: tuple[str, ...]) -> Norm:
    """Read the scale of a norm, and refuse one that does something else than to divide by the root mean square."""
    if [own for own, _ in module.named_parameters()] != ["weight"]:
        raise _other_norm(path, module)
    weight = cast(Tensor, module.weight)
    name = next((name for name in EPSILONS if name in vars(module)), None)
    epsilon = float(vars(module)[name] or 0.0) if name is not None else 0.0
    bare = deepcopy(module).double()
    with torch.no_grad():
        cast(Tensor, bare.weight).zero_()
        states = torch.randn(2, len(weight), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(weight.device)
        offset = float(bare(1e3 * torch.ones_like(states)).mean().round())
        scale = offset + weight.detach().double()
        expected = scale * states / (states.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()
        found = deepcopy(module).double()(states)
    if not torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-3):
        raise _other_norm(path, module)
    return Norm(path, scale, offset, epsilon, name, readers)


def _other_norm(path: str, module: nn.Module) -> CompactionError:
    """What to say of something else that has a number per channel."""
    return CompactionError(
        "What has one number per channel of the residual stream must be a norm that divides by the root mean square alone, but "
        f"`{path}` is a {type(module).__name__}, which does more than that, so that channels cannot be turned or taken out. "
        "Take neurons, heads or layers out instead."
    )
