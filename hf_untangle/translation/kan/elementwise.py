"""What an activation does to one number: whether it acts elementwise, and whether it is piecewise linear.

Neither is believed of a name: a form from the table is tried on a probe before anyone relies on it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.piecewise_linear import PiecewiseLinear

FORMS: dict[type[nn.Module], Callable[[Any], tuple[list[float], list[float], float, float]]] = {
    nn.Identity: lambda _: ([0], [0], 1, 1),
    nn.ReLU: lambda _: ([0], [0], 0, 1),
    nn.LeakyReLU: lambda leaky: ([0], [0], leaky.negative_slope, 1),
    nn.Hardtanh: lambda clip: ([clip.min_val, clip.max_val], [clip.min_val, clip.max_val], 0, 0),
    nn.ReLU6: lambda _: ([0, 6], [0, 6], 0, 0),
    nn.Hardsigmoid: lambda _: ([-3, 3], [0, 1], 0, 0),
    nn.Softshrink: lambda shrink: ([-shrink.lambd, shrink.lambd], [0, 0], 1, 1),
    nn.RReLU: lambda leaky: ([0], [0], (leaky.lower + leaky.upper) / 2, 1),
    nn.Threshold: lambda bent: ([bent.threshold], [bent.value], 0, 1),
}
"""Knots, values, left slope and right slope of the activations that are piecewise linear."""

REASONS: dict[type[nn.Module], str] = {
    nn.Hardswish: "between -3 and 3 it is the parabola x (x + 3) / 6",
    nn.Hardshrink: "it jumps at both thresholds",
    nn.Softmax: "it does not act on each number alone",
    **dict.fromkeys((nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.CELU, nn.SELU, nn.Softplus, nn.Tanh, nn.Sigmoid), "it is curved"),
}
"""Why some activations are not."""

UNSUPPORTED: dict[type[nn.Module], str] = {
    nn.Threshold: "its value is not its threshold, so it jumps there",
    nn.PReLU: "its slope is trained, so it is no fixed function",
    nn.RReLU: "its slope is random in training mode; call .eval() first",
}
"""Why some activations are refused that are piecewise linear, or may be."""


def known_form(activation: nn.Module) -> PiecewiseLinear | None:
    """Look up the piecewise linear function that an activation computes, and try it.

    Args:
        activation: A module that may be an activation.

    Returns:
        The function in float64, or None if none is known or the module does something else on a probe.
    """
    read = FORMS.get(type(activation))
    if read is None or (isinstance(activation, nn.RReLU) and activation.training):  # which would draw random numbers
        return None
    form = PiecewiseLinear(*(torch.tensor(part, dtype=torch.float64) for part in read(activation)))
    probe = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    return form if torch.allclose(activation(probe.clone()), form(probe)) else None


def piecewise_linear_form(activation: nn.Module) -> PiecewiseLinear:
    """Get the piecewise linear function that an activation computes.

    Args:
        activation: The activation.

    Returns:
        The function, in float64.

    Raises:
        TranslationError: If the activation is not piecewise linear, or not supported.
    """
    form = known_form(activation)
    if form is None:
        kind, known = type(activation), f"known are {', '.join(kind.__name__ for kind in FORMS)}"
        what = "not a piecewise linear activation" if kind in REASONS else "not supported as an activation"
        raise TranslationError(
            f"{kind.__name__} is {what}: {(REASONS | UNSUPPORTED).get(kind, known)}. "
            "Replace it before training, or keep this part of the network as it is."
        )
    return form


@torch.no_grad()
def is_elementwise(module: nn.Module, width: int = 64) -> bool:
    """Find out by probing whether a module maps every number on its own and all by the same function.

    The numbers are shuffled, which must only shuffle the outputs, and one is changed, which must change no
    other output.

    Args:
        module: Any module without parameters, in evaluation mode.
        width: How many numbers to try.

    Returns:
        Whether it passed; a module that cannot take a single float tensor did not.
    """
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(1, 2, width, generator=generator)
    order = torch.randperm(width, generator=generator)
    changed = torch.where(torch.arange(width) == 0, x + 1, x)
    try:
        y, shuffled, disturbed = (module(probe.clone()) for probe in (x, x[..., order], changed))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False  # whatever it is, it is no function of one tensor
    if not all(isinstance(out, Tensor) and out.shape == x.shape for out in (y, shuffled, disturbed)):
        return False
    return torch.allclose(shuffled, y[..., order]) and torch.equal(disturbed[..., 1:], y[..., 1:])
