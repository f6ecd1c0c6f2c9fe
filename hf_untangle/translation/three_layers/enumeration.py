"""Finds all linear regions of a network in a box, within limits, in one process or several."""

import math
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.progress import track
from hf_untangle.translation.three_layers.boxes import Bounds, Box, box_of
from hf_untangle.translation.three_layers.network import ReluNetwork, Weights
from hf_untangle.translation.three_layers.read_network import read_network
from hf_untangle.translation.three_layers.region_tree import Leaf, RegionTree
from hf_untangle.translation.three_layers.regions import Regions, Stopped, gather_regions
from hf_untangle.translation.three_layers.tree_walk import Arguments, dive, walk, walk_in_pool

HOPELESS = 100
"""An estimate so many times above the limit means too many regions: an unbiased positive estimate is that
much too high with a probability of at most 1 in 100 (Markov)."""


@checked_calls
@dataclass(frozen=True)
class RegionEstimate:
    """How many linear regions to expect."""

    mean: float
    """An unbiased estimate."""
    standard_error: float
    """Its standard error, itself estimated; the distribution has a long tail."""
    upper_bound: int
    """The product over layers of the most cells that their hyperplanes can cut space into (Zaslavsky)."""


@checked_arguments
def enumerate_regions(
    network: nn.Module | ReluNetwork,
    box: Bounds,
    *,
    max_regions: int = 100_000,
    max_seconds: float = math.inf,
    processes: int = 1,
    progress: bool = False,
) -> Regions:
    """Find all linear regions of a network in a box.

    Depth first through the tree of `region_tree`: the bounds of a neuron over the box, known inner
    points, and only then a linear program decide whether it cuts a region (with two inputs, the corners
    of the region decide). A sliver that holds no ball of radius 1e-9, where the box is scaled to the cube
    from -1 to 1, is not a region of its own; points in it get the local model of a neighbor. The same
    regions come in the same order from any number of processes.

    Args:
        network: The network, or a module that `read_network` can read.
        box: The lower and the upper corner.
        max_regions: Stop when there are more regions than this.
        max_seconds: Stop after this time.
        processes: How many processes search.
        progress: Show a progress bar.

    Returns:
        The regions. `complete` says whether they are all; if not, `stopped` and `explored` say how far it
        came.

    Raises:
        ConfigError: A limit is not above 0, or the box is not bounded.
    """
    if min(max_regions, max_seconds, processes) <= 0:
        raise ConfigError(
            f"max_regions, max_seconds and processes must be above 0, got {max_regions}, {max_seconds} and {processes}."
        )
    network = _prepared(network)
    bounded, deadline = box_of(network, box), time.time() + max_seconds
    arguments = _tree_arguments(network, bounded)
    stream = walk(arguments, deadline) if processes == 1 else walk_in_pool(arguments, deadline, processes, max_regions)
    leaves, stopped = _collect(stream, max_regions, progress)
    return gather_regions(network, bounded, leaves, stopped)


def all_regions(network: nn.Module | ReluNetwork, box: Bounds, *, max_regions: int = 100_000, **search: Any) -> Regions:
    """Find all linear regions of a network in a box, or say that there are too many, if possible before the search.

    Args:
        network: The network, or a module that `read_network` can read.
        box: The lower and the upper corner.
        max_regions: The most regions to look for.
        **search: The other settings of `enumerate_regions`.

    Returns:
        The regions, all of them.

    Raises:
        BudgetError: The network has too many regions in the box for these limits.
    """
    network = read_network(network)
    expected = estimate_regions(network, box).mean
    advice = (
        f"About {expected:.3g} linear regions are expected in this box; max_regions is {max_regions}. Take a "
        "smaller box, raise the limits, or translate only what a data set needs (index_patterns)."
    )
    if expected > HOPELESS * max_regions:
        raise BudgetError(advice)
    regions = enumerate_regions(network, box, max_regions=max_regions, **search)
    if not regions.complete:
        raise BudgetError(f"The search stopped at {regions.stopped}. {advice}")
    return regions


@checked_arguments
def estimate_regions(network: nn.Module | ReluNetwork, box: Bounds, dives: int = 64, seed: int = 0) -> RegionEstimate:
    """Estimate the number of linear regions from random dives into the search tree, before hours are spent.

    A dive takes a random child at each split. The product of the numbers of children on its way is an
    unbiased estimate of the number of leaves (Knuth 1975).

    Args:
        network: The network, or a module that `read_network` can read.
        box: The lower and the upper corner.
        dives: How many dives to average.
        seed: Of the random choices.

    Returns:
        The estimate, and an upper bound that needs no search.

    Raises:
        ConfigError: There are fewer than two dives, or the box is not bounded.
    """
    if dives < 2:
        raise ConfigError(f"An estimate with an error needs at least two dives, got {dives}.")
    network = _prepared(network)
    tree, chance = RegionTree(*_tree_arguments(network, box_of(network, box))), random.Random(seed)
    counts = [dive(tree, chance) for _ in range(dives)]
    mean = sum(counts) / dives
    variance = sum((count - mean) ** 2 for count in counts) / (dives - 1)
    return RegionEstimate(mean, math.sqrt(variance / dives), _upper_bound(network))


def _prepared(network: nn.Module | ReluNetwork) -> ReluNetwork:
    """Read a module, and search where it is most precise."""
    return read_network(network).to("cpu").to(torch.float64)


def _tree_arguments(network: ReluNetwork, box: Box) -> Arguments:
    """Write the search in numpy, which is faster than torch for small matrices."""
    layers = tuple(_arrays(weights) for weights in network.layers)
    return layers, _arrays(network.output), box.lower.numpy(), box.upper.numpy()


def _arrays(weights: Weights) -> dict[int, np.ndarray]:
    """View one map as float64 arrays."""
    return {source: weight.numpy() for source, weight in weights.items()}


def _collect(stream: Iterable[Leaf | None], max_regions: int, progress: bool) -> tuple[list[Leaf], Stopped | None]:
    """Take leaves until there are no more, too many, or None says that the time is up."""
    leaves: list[Leaf] = []
    with track("regions", 1.0, progress=progress) as bar:
        for leaf in stream:
            if leaf is None:
                return leaves, "max_seconds"
            if len(leaves) == max_regions:
                return leaves, "max_regions"
            leaves.append(leaf)
            bar.say(f"{len(leaves)} found")
            bar.update(0.5 ** len(leaf.tests))
    return leaves, None


def _upper_bound(network: ReluNetwork) -> int:
    """Multiply over layers: w hyperplanes cut n-dimensional space into at most sum_(i <= n) C(w, i) cells."""
    return math.prod(sum(math.comb(width, i) for i in range(min(network.inputs, width) + 1)) for width in network.widths)
