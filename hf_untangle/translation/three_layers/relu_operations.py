"""Piecewise linear operations, each written with ReLU neurons and affine maps only.

Every function takes `relu`, which makes one layer of neurons out of an affine form, and then the arguments of
the PyTorch operation it is named after. All of them are identities, for instance max(a, b) = b + relu(a - b).
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hf_untangle.errors import TranslationError
from hf_untangle.translation.three_layers.affine_forms import AffineForm, apply

Relu = Callable[[AffineForm], AffineForm]
Operand = Any  # an affine form or a constant tensor; one of two operands at least is a form


def leaky_relu(relu: Relu, z: AffineForm, negative_slope: float | Float[Tensor, "..."] = 0.01) -> AffineForm:
    """A line of the negative slope, bent up at 0."""
    return negative_slope * z + (1 - negative_slope) * relu(z)


def rrelu(relu: Relu, z: AffineForm, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False) -> AffineForm:
    """In evaluation, a leaky ReLU of the mean slope."""
    return leaky_relu(relu, z, (lower + upper) / 2)


def prelu(relu: Relu, z: AffineForm, weight: Float[Tensor, " channel"]) -> AffineForm:
    """A leaky ReLU with a slope for each channel, or one for all."""
    spatial = [1] * max(z.constant.ndim - 2, 0)
    return leaky_relu(relu, z, weight if weight.numel() == 1 else weight.reshape(-1, *spatial))


def clamp(relu: Relu, z: AffineForm, min: float | None = None, max: float | None = None) -> AffineForm:
    """Bend at the lower bound, then at the upper one."""
    if min is not None:
        z = relu(z - min) + min
    return z if max is None else max - relu(max - z)


def hardtanh(relu: Relu, z: AffineForm, min_val: float = -1.0, max_val: float = 1.0) -> AffineForm:
    """A clamp (ReLU6 is one too)."""
    return clamp(relu, z, min_val, max_val)


def hardsigmoid(relu: Relu, z: AffineForm) -> AffineForm:
    """A clamp from 0 to 1 with slope 1/6."""
    return clamp(relu, z + 3.0, 0.0, 6.0) * (1 / 6)


def softshrink(relu: Relu, z: AffineForm, lambd: float = 0.5) -> AffineForm:
    """Flat from -lambd to lambd, slope 1 on either side."""
    return relu(z - lambd) - relu(-1.0 * z - lambd)


def absolute(relu: Relu, z: AffineForm) -> AffineForm:
    """The line -z, bent up at 0."""
    return 2.0 * relu(z) - z


def threshold(relu: Relu, z: AffineForm, threshold: float, value: float) -> AffineForm:
    """A clamp from below, unless it jumps."""
    if threshold != value:
        raise TranslationError(
            f"A threshold of {threshold:g} with the value {value:g} below it jumps, so the network is no network of ReLUs. Use "
            "the same number for both."
        )
    return clamp(relu, z, threshold)


def vector_norm(
    relu: Relu,
    z: AffineForm,
    ord: float | int = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    **_: Any,
) -> AffineForm:
    """The sum of absolute values, or the largest of them."""
    dims = list(range(z.constant.ndim)) if dim is None else list(dim)
    if ord == float("inf"):
        return amax(relu, absolute(relu, z), dims, keepdim)
    if ord != 1:
        raise TranslationError(f"Of the norms, those of order 1 and infinity are piecewise linear; this one has order {ord:g}.")
    return apply(torch.sum, absolute(relu, z), dims, keepdim)


def maximum(relu: Relu, a: Operand, b: Operand) -> AffineForm:
    """As far above b as a is, if it is."""
    return relu(a - b) + b


def minimum(relu: Relu, a: Operand, b: Operand) -> AffineForm:
    """As far below b as a is, if it is."""
    return b - relu(b - a)


def amax(relu: Relu, z: AffineForm, dim: Sequence[int] = (), keepdim: bool = False) -> AffineForm:
    """The largest along some dimensions, or all, one comparison after the other."""
    dim = [axis % z.constant.ndim for axis in dim] or list(range(z.constant.ndim))
    for axis in dim:
        items = [_select(z, axis, torch.tensor([i])) for i in range(z.constant.shape[axis])]
        z = reduce(lambda a, b: maximum(relu, a, b), items)
    return z if keepdim else apply(torch.squeeze, z, tuple(dim))


def amin(relu: Relu, z: AffineForm, dim: Sequence[int] = (), keepdim: bool = False) -> AffineForm:
    """The smallest along some dimensions."""
    return -1.0 * amax(relu, -1.0 * z, dim, keepdim)


def max_of(relu: Relu, z: Operand, other: Operand | None = None, keepdim: bool = False) -> AffineForm | tuple[AffineForm, ...]:
    """The larger of two, or the largest of all, or along one dimension, where positions would come second."""
    if other is None:
        return amax(relu, z)
    return (amax(relu, z, [other], keepdim),) if isinstance(other, int) else maximum(relu, z, other)


def min_of(relu: Relu, z: Operand, other: Operand | None = None, keepdim: bool = False) -> AffineForm | tuple[AffineForm, ...]:
    """The smaller of two, or the smallest of all, or along one dimension, where positions would come second."""
    if other is None:
        return amin(relu, z)
    return (amin(relu, z, [other], keepdim),) if isinstance(other, int) else minimum(relu, z, other)


def adaptive_max_pool(relu: Relu, z: AffineForm, output_size: Sequence[int]) -> tuple[AffineForm, ...]:
    """The largest of each of so many windows, where positions would come second."""
    for axis, count in zip(range(z.constant.ndim - len(output_size), z.constant.ndim), output_size, strict=True):
        size, numbers = z.constant.shape[axis], torch.arange(count)
        starts, ends = numbers * size // count, -(-(numbers + 1) * size // count)
        windows = torch.minimum(starts[:, None] + torch.arange(int((ends - starts).max())), ends[:, None] - 1)
        z = reduce(lambda a, b: maximum(relu, a, b), [_select(z, axis, column) for column in windows.T])
    return (z,)


def max_pool(
    relu: Relu,
    z: AffineForm,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] | int = 0,
    dilation: Sequence[int] | int = 1,
    ceil_mode: bool = False,
) -> AffineForm:
    """The largest of each window: pool along one axis after the other, which needs fewer comparisons."""
    axes = range(2, z.constant.ndim)
    settings = [_each_axis(setting, axes) for setting in (kernel_size, stride or kernel_size, padding, dilation)]
    for axis, *setting in zip(axes, *settings, strict=True):
        windows = _windows(z.constant.shape[axis], *setting, ceil_mode=ceil_mode)
        z = reduce(lambda a, b: maximum(relu, a, b), [_select(z, axis, column) for column in windows.T])
    return z


def _windows(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> Tensor:
    """Positions (window, entry) along one axis.

    An entry in the padding is replaced by the first one of the same window that is inside: the largest stays.
    """
    count = (size + 2 * padding - dilation * (kernel - 1) - 1 + (stride - 1) * ceil_mode) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # PyTorch drops a window that would start in the right padding
    starts = torch.arange(count) * stride - padding
    positions = starts[:, None] + dilation * torch.arange(kernel)
    inside = (positions >= 0) & (positions < size)
    first = positions.gather(1, inside.int().argmax(1, keepdim=True))
    return torch.where(inside, positions, first)


def _select(z: AffineForm, axis: int, positions: Tensor) -> AffineForm:
    """Take some positions along one axis."""
    return apply(torch.index_select, z, axis, positions)


def _each_axis(setting: Sequence[int] | int, axes: Sequence[int]) -> Sequence[int]:
    """Repeat a setting that is given once for all axes."""
    values = [setting] if isinstance(setting, int) else setting
    return list(values) * len(axes) if len(values) == 1 else values


PIECEWISE_LINEAR: dict[str, Callable[..., AffineForm | tuple[AffineForm, ...]]] = {
    "abs": absolute,
    "adaptive_max_pool1d": adaptive_max_pool,
    "adaptive_max_pool2d": adaptive_max_pool,
    "adaptive_max_pool3d": adaptive_max_pool,
    "amax": amax,
    "amin": amin,
    "clamp": clamp,
    "clip": clamp,
    "clamp_min": clamp,
    "clamp_max": lambda relu, z, bound: clamp(relu, z, None, bound),
    "fmax": maximum,
    "fmin": minimum,
    "hardsigmoid": hardsigmoid,
    "hardtanh": hardtanh,
    "leaky_relu": leaky_relu,
    "linalg_vector_norm": vector_norm,
    "max": max_of,
    "min": min_of,
    "max_pool1d": max_pool,
    "max_pool2d": max_pool,
    "max_pool3d": max_pool,
    "maximum": maximum,
    "minimum": minimum,
    "prelu": prelu,
    "relu": lambda relu, z: relu(z),
    "relu6": lambda relu, z: clamp(relu, z, 0.0, 6.0),
    "rrelu": rrelu,
    "softshrink": softshrink,
    "threshold": threshold,
}
"""What is piecewise linear, under the names that PyTorch's exported graphs give the operations."""
