"""Neurons that never change sign in a box: found, folded into the next map or removed, without any change
there.

An always-active neuron is affine, so the maps that read it can read its sources instead. An
always-inactive one is 0. What is left computes the same on the whole box with fewer neurons.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.translation.three_layers.boxes import Bounds, box_of
from hf_untangle.translation.three_layers.homogeneous import mix
from hf_untangle.translation.three_layers.network import ReluNetwork, Weights
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.regions import Regions


@checked_calls
@dataclass(frozen=True, eq=False)
class ConstantNeurons:
    """Which neurons have one sign all over a box. The others may or may not."""

    always_on: Bool[Tensor, " all_neurons"]
    """Neurons that are active in all of the box."""
    always_off: Bool[Tensor, " all_neurons"]
    """Neurons that are inactive in all of the box."""
    __repr__ = fields_repr


@checked_arguments
def constant_by_bounds(network: nn.Module | ReluNetwork, box: Bounds) -> ConstantNeurons:
    """Find neurons whose interval bounds have one sign: certain, fast at any size, but not all there are.

    Args:
        network: The network, or a module that `read_network` can read.
        box: The lower and the upper corner.

    Returns:
        The neurons.
    """
    network = read_network(network)
    bounded = box_of(network, box)
    center = network.homogeneous(((bounded.lower + bounded.upper) / 2)[None])
    reach = torch.cat([(bounded.upper - bounded.lower) / 2, torch.zeros(1)])[None].to(center)
    middles, reaches, lowest, highest = [center], [reach], [center[:, :0]], [center[:, :0]]
    for weights in network.layers:
        middle = mix(weights, middles)
        reach = mix({source: weight.abs() for source, weight in weights.items()}, reaches)
        lowest.append(middle - reach)
        highest.append(middle + reach)
        low, high = lowest[-1].relu(), highest[-1].relu()
        middles.append((low + high) / 2)
        reaches.append((high - low) / 2)
    return ConstantNeurons(torch.cat(lowest, dim=1)[0] >= 0, torch.cat(highest, dim=1)[0] <= 0)


@checked_arguments
def constant_in_regions(regions: Regions) -> ConstantNeurons:
    """Find all neurons that have one sign in the box of an enumeration.

    Args:
        regions: All regions of a network in a box.

    Returns:
        The neurons.

    Raises:
        ConfigError: The regions do not cover their box.
    """
    if not regions.complete:
        raise ConfigError(
            f"The search for regions stopped at {regions.stopped}, so it is not known what neurons do in the "
            "rest of the box. Use constant_by_bounds, or raise the limit."
        )
    return ConstantNeurons(regions.patterns.all(dim=0), ~regions.patterns.any(dim=0))


@checked_arguments
def without_constant_neurons(network: nn.Module | ReluNetwork, constant: ConstantNeurons) -> ReluNetwork:
    """Fold always-active neurons into the maps that read them, and leave always-inactive ones out.

    Args:
        network: The network, or a module that `read_network` can read.
        constant: Its constant neurons in some box.

    Returns:
        A network with the other neurons only, the same function in that box. Layers without neurons are gone.
    """
    network = read_network(network)
    new_layers, new_names = [], []
    # each source as a linear function of the new sources: {new source: (source, new source) matrix}
    read: list[Weights] = [{0: torch.eye(network.inputs + 1).to(network.output[0])}]
    split = zip(*(mask.split(network.widths) for mask in (constant.always_on, constant.always_off)), strict=True)
    for name, weights, (on, off) in zip(network.names, network.layers, split, strict=True):
        layer = _composed(weights, read)
        stays = ~(on | off)
        known = {source: weight * on[:, None] for source, weight in layer.items()}
        if stays.any():
            new_layers.append({source: weight[stays] for source, weight in layer.items()})
            new_names.append(name)
            known[len(new_layers)] = torch.eye(len(stays)).to(network.output[0])[:, stays]
        read.append(known)
    return ReluNetwork(
        network.input_shape,
        network.output_shape,
        tuple(new_layers),
        tuple(new_names),
        _composed(network.output, read),
    )


def _composed(weights: Weights, read: list[Weights]) -> Weights:
    """Let a map read the new sources instead of the old ones, and leave out those that it does not need."""
    composed: dict[int, Tensor] = {}
    for source, weight in weights.items():
        for new_source, matrix in read[source].items():
            composed[new_source] = composed.get(new_source, 0) + weight @ matrix
    return {source: weight for source, weight in composed.items() if source == 0 or weight.any()}
