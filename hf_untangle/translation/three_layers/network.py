"""A piecewise linear network as layers of ReLU neurons, written in homogeneous coordinates.

A point `x` is written `(x, 1)`. The weight of that last 1 is the bias, so every affine map is a plain matrix
product, and a half-space `a . x + c > 0` is one row `(a, c)`. A layer may read the input and any earlier
layer, which makes room for residual connections. Running the network on points evaluates it; running it with
fixed gates on the basis vectors of the input composes the affine maps of one linear region. Both are
`propagate`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.translation.three_layers.homogeneous import mix

Weights = Mapping[int, Float[Tensor, "_ _"]]
"""One affine map: a matrix (output, source) for each source it reads.

Source 0 is `(x, 1)`; every map reads it, since its bias is there. Source l > 0 is what layer l - 1 puts out.
"""


@checked_calls
@dataclass(frozen=True, eq=False, repr=False)
class ReluNetwork:
    """A continuous piecewise linear function, `y = output(x, relu layers)`.

    Calling it on points (point, *input_shape) gives (point, *output_shape).
    """

    input_shape: tuple[int, ...]
    """Shape of one input, without the batch."""
    output_shape: tuple[int, ...]
    """Shape of one output, without the batch."""
    layers: tuple[Weights, ...]
    """The pre-activations of each layer of ReLU neurons."""
    names: tuple[str, ...]
    """The module that each layer came from, for people."""
    output: Weights
    """The affine map onto the flattened output."""

    def __repr__(self) -> str:
        """Say what goes in and out, and how many neurons each layer has."""
        return f"ReluNetwork({self.input_shape} -> {self.output_shape}, widths {self.widths})"

    @property
    def inputs(self) -> int:
        """Number of input coordinates."""
        return self.output[0].shape[1] - 1

    @property
    def outputs(self) -> int:
        """Number of output coordinates."""
        return self.output[0].shape[0]

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of ReLU neurons of each layer."""
        return tuple(weights[0].shape[0] for weights in self.layers)

    @property
    def neurons(self) -> int:
        """Number of ReLU neurons, hence the length of an activation pattern."""
        return sum(self.widths)

    def __call__(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point ..."]:
        """Evaluate the network.

        Args:
            x: Points, in any floating dtype; they are computed with in the dtype of the network.

        Returns:
            The outputs.
        """
        _, y = propagate(self, self.homogeneous(x), lambda _, z: z.relu())
        return y.reshape(len(x), *self.output_shape)

    def homogeneous(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point coordinate"]:
        """Write points as `(x, 1)`, in the dtype and on the device of the network.

        Args:
            x: Points.

        Returns:
            One row for each point.
        """
        flat = x.reshape(len(x), self.inputs).to(self.output[0])
        return torch.cat([flat, flat.new_ones(len(x), 1)], dim=1)

    def to(self, target: torch.device | torch.dtype | str) -> "ReluNetwork":
        """Move the network.

        Args:
            target: A device or a dtype.

        Returns:
            A network with its weights there.
        """
        layers = tuple(_moved(weights, target) for weights in self.layers)
        return ReluNetwork(self.input_shape, self.output_shape, layers, self.names, _moved(self.output, target))


def propagate(
    network: ReluNetwork,
    start: Float[Tensor, "... row coordinate"],
    activate: Callable[[int, Float[Tensor, "... row neuron"]], Float[Tensor, "... row neuron"]],
) -> tuple[Float[Tensor, "... row all_neurons"], Float[Tensor, "... row output"]]:
    """Run the network from rows in homogeneous coordinates.

    Args:
        network: The network.
        start: What stands for the input: points, or basis vectors.
        activate: What stands for the ReLU, given the number of the layer and its pre-activations.

    Returns:
        The pre-activations of all neurons, layer after layer, and the output.
    """
    values, pre_activations = [start], [start[..., :0]]
    for number, weights in enumerate(network.layers):
        pre_activations.append(mix(weights, values))
        values.append(activate(number, pre_activations[-1]))
    return torch.cat(pre_activations, dim=-1), mix(network.output, values)


def activation_pattern(network: ReluNetwork, x: Float[Tensor, "point ..."]) -> Bool[Tensor, "point all_neurons"]:
    """Say which neurons are active at each point: those whose pre-activation is above 0, strictly.

    Args:
        network: The network.
        x: Points.

    Returns:
        One bit for each neuron, layer after layer.
    """
    pre_activations, _ = propagate(network, network.homogeneous(x), lambda _, z: z.relu())
    return pre_activations > 0


def half_spaces(
    network: ReluNetwork, pattern: Bool[Tensor, "*batch all_neurons"]
) -> Float[Tensor, "*batch all_neurons coordinate"]:
    """Compose every neuron's pre-activation, as a function of the input, while an activation pattern holds.

    The linear region of the pattern is where row . (x, 1) > 0 for its active neurons and <= 0 for the others.

    Args:
        network: The network.
        pattern: Which neurons are active; one pattern or a batch of them.

    Returns:
        One row (a, c) for each neuron, for the pre-activation `a . x + c`.
    """
    return _linear(network, pattern)[0].mT


def local_model(network: ReluNetwork, pattern: Bool[Tensor, "*batch all_neurons"]) -> Float[Tensor, "*batch output coordinate"]:
    """Compose the network's output, as a function of the input, while an activation pattern holds.

    With diagonal gates D_l of the pattern, A_1 = W_1 and A_(l+1) = W_(l+1) D_l A_l for a chain of layers.

    Args:
        network: The network.
        pattern: Which neurons are active; one pattern or a batch of them.

    Returns:
        One row (slope, intercept) for each output.
    """
    return _linear(network, pattern)[1].mT


def _linear(network: ReluNetwork, pattern: Tensor) -> tuple[Tensor, Tensor]:
    """Run the network with fixed gates on the basis vectors, where it is linear."""
    basis = torch.eye(network.inputs + 1).to(network.output[0]).expand(*pattern.shape[:-1], -1, -1)
    gates = pattern[..., None, :].to(basis.device).split(network.widths, dim=-1)
    return propagate(network, basis, lambda layer, z: z * gates[layer])


def _moved(weights: Weights, target: torch.device | torch.dtype | str) -> Weights:
    """Move the matrices of one map."""
    return {source: weight.to(target) for source, weight in weights.items()}
