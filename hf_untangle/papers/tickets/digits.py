"""Small classifiers of handwritten digits, to search tickets of."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.config import nearest
from hf_untangle.data.digits import digits
from hf_untangle.errors import ConfigError
from hf_untangle.nets.functional import Examples
from hf_untangle.papers.networks import convolutional, mlp

NetworkName = Literal["mlp", "convolutional"]
PIXELS, CLASSES = (1, 8, 8), 10

TICKET_NETWORKS: dict[NetworkName, Callable[[int], nn.Module]] = {
    "mlp": lambda width: mlp(width, PIXELS, CLASSES, hidden=1),
    "convolutional": lambda width: convolutional(max(1, width // 2), PIXELS, CLASSES),
}
"""Two linear layers with `width` hidden neurons; two convolutions, the second of `width` channels, and a linear layer."""


@checked_arguments
def digits_task(network: NetworkName, width: int = 64) -> tuple[nn.Module, Examples, Examples, Examples]:
    """Make a network, and the digits that it reads.

    Args:
        network: A key of `TICKET_NETWORKS`.
        width: Hidden neurons, or channels of the second convolution.

    Returns:
        The network; examples to learn from, to choose by and to test on.

    Raises:
        ConfigError: There is no such network.
    """
    if network not in TICKET_NETWORKS:
        known = ", ".join(TICKET_NETWORKS)
        raise ConfigError(f"The network must be one of {known}, got `{network}`{nearest(network, TICKET_NETWORKS)}.")
    data = digits()
    return TICKET_NETWORKS[network](width), data.train.planes(), data.validation.planes(), data.test.planes()
