"""Small classifiers of handwritten digits, to search tickets of."""

from typing import Literal, get_args

from torch import nn

from hf_untangle.data.digits import Digits, Labeled, digits
from hf_untangle.errors import ConfigError
from hf_untangle.nets.functional import Examples

Shape = Literal["mlp", "convolutional"]


def digits_task(shape: Shape, width: int = 64) -> tuple[nn.Module, Examples, Examples, Examples]:
    """Make a network, and the digits in the form that it takes.

    Args:
        shape: Two linear layers, or two convolutions and a linear layer.
        width: Hidden neurons, or channels of the second convolution.

    Returns:
        The network; examples to learn from, to choose by and to test on.

    Raises:
        ConfigError: There is no such shape.
    """
    if shape not in get_args(Shape):
        raise ConfigError(f"The network must be one of {', '.join(get_args(Shape))}, got `{shape}`.")
    data: Digits = digits()
    view = Labeled.flat if shape == "mlp" else Labeled.planes
    return _network(shape, width), view(data.train), view(data.validation), view(data.test)


def _network(shape: Shape, width: int) -> nn.Module:
    """The network itself."""
    if shape == "mlp":
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
    half = max(1, width // 2)
    return nn.Sequential(
        nn.Conv2d(1, half, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(half, width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )
