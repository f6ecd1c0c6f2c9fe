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
from hf_untangle.translation.shallow.affine_forms import AffineForm, apply

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


def maximum(relu: Relu, a: Operand, b: Operand) -> AffineForm:
    """As far above b as a is, if it is."""
    return relu(a - b) + b


def minimum(relu: Relu, a: Operand, b: Operand) -> AffineForm:
    """As far below b as a is, if it is."""
    return b - relu(b - a)


def amax(relu: Relu, z: AffineForm, dim: Sequence[int], keepdim: bool = False) -> AffineForm:
    """The largest along some dimensions, one comparison after the other."""
    for axis in dim:
        items = [_select(z, axis, torch.tensor([i])) for i in range(z.constant.shape[axis])]
        z = reduce(lambda a, b: maximum(relu, a, b), items)
    return z if keepdim else apply(torch.squeeze, z, tuple(dim))


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
    if any(step != 1 for step in _each_axis(dilation, axes)):
        raise TranslationError("Max-pooling can be read with dilation 1 only; this one has a larger dilation.")
    strides = _each_axis(stride or kernel_size, axes)
    for axis, kernel, step, pad in zip(axes, _each_axis(kernel_size, axes), strides, _each_axis(padding, axes), strict=True):
        windows = _windows(z.constant.shape[axis], kernel, step, pad, ceil_mode)
        z = reduce(lambda a, b: maximum(relu, a, b), [_select(z, axis, column) for column in windows.T])
    return z


def _windows(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> Tensor:
    """Positions (window, entry) along one axis.

    An entry in the padding is replaced by the nearest one inside, which is in the same window: the largest
    stays.
    """
    count = (size + 2 * padding - kernel + (stride - 1) * ceil_mode) // stride + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1  # PyTorch drops a window that would start in the right padding
    starts = torch.arange(count) * stride - padding
    return (starts[:, None] + torch.arange(kernel)).clamp(0, size - 1)


def _select(z: AffineForm, axis: int, positions: Tensor) -> AffineForm:
    """Take some positions along one axis."""
    return apply(torch.index_select, z, axis, positions)


def _each_axis(setting: Sequence[int] | int, axes: Sequence[int]) -> Sequence[int]:
    """Repeat a setting that is given once for all axes."""
    values = [setting] if isinstance(setting, int) else setting
    return list(values) * len(axes) if len(values) == 1 else values


PIECEWISE_LINEAR: dict[str, Callable[..., AffineForm]] = {
    "abs": absolute,
    "amax": amax,
    "clamp": clamp,
    "clamp_min": clamp,
    "clamp_max": lambda relu, z, bound: clamp(relu, z, None, bound),
    "hardsigmoid": hardsigmoid,
    "hardtanh": hardtanh,
    "leaky_relu": leaky_relu,
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
}
"""What is piecewise linear, under the names that PyTorch's exported graphs give the operations."""
