"""The linear regions that a data set visits: what can be known of a network with too many regions to list.

A region is stored as its activation pattern, one bit for each neuron; its local model is composed when it is
asked for. On a stored region this is the network; of any other region the index says that it is unknown.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.errors import StatisticsError, TranslationError
from hf_untangle.translation.three_layers import network as networks
from hf_untangle.translation.three_layers.network import ReluNetwork, activation_pattern
from hf_untangle.translation.three_layers.read_network import read_network


@checked_calls
@dataclass(frozen=True, eq=False)
class PatternIndex:
    """The activation patterns of a data set, in the order of their hashes."""

    network: ReluNetwork
    """The network they are patterns of."""
    hashes: Int64[Tensor, " region"]
    """The hash of each pattern, ascending."""
    packed: UInt8[Tensor, "region byte"]
    """Each pattern, eight neurons to a byte."""
    counts: Int64[Tensor, " region"]
    """How many points of the data set have each pattern."""
    __repr__ = fields_repr

    def __len__(self) -> int:
        """Count the regions."""
        return len(self.hashes)

    def locate(self, x: Float[Tensor, "point ..."]) -> Int[Tensor, " point"]:
        """Look up the region of each point.

        Args:
            x: Points.

        Returns:
            Its number, or -1 if the data set did not visit it.
        """
        packed = pack(activation_pattern(self.network, x))
        place = torch.searchsorted(self.hashes, hashed(packed)).clamp(max=len(self) - 1)
        return torch.where((self.packed[place] == packed).all(dim=1), place, -1)

    def coverage(self, x: Float[Tensor, "point ..."]) -> float:
        """Measure how much of other data lies in known regions.

        Args:
            x: Points, for instance a test set.

        Returns:
            Their share, from 0 to 1.
        """
        return float((self.locate(x) >= 0).double().mean())

    def pattern(self, region: int) -> Bool[Tensor, " all_neurons"]:
        """Look up which neurons are active in a region.

        Args:
            region: Its number.

        Returns:
            One bit for each neuron.
        """
        return unpack(self.packed[region : region + 1], self.network.neurons)[0]

    def local_model(self, region: int) -> Float[Tensor, "output coordinate"]:
        """Compose what the network computes in a region.

        Args:
            region: Its number.

        Returns:
            One row (slope, intercept) for each output.
        """
        return networks.local_model(self.network, self.pattern(region))

    def __call__(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point ..."]:
        """Evaluate the stored local models.

        Args:
            x: Points of known regions.

        Returns:
            The outputs.

        Raises:
            TranslationError: A point lies in a region that the data set did not visit.
        """
        region = self.locate(x)
        unknown = (region < 0).nonzero()[:, 0]
        if len(unknown):
            raise TranslationError(
                f"{len(unknown)} of {len(x)} points lie in unknown regions, the first of them at position "
                f"{int(unknown[0])}. Ask `locate` first, or index more data."
            )
        gates = unpack(self.packed[region], self.network.neurons).split(self.network.widths, dim=1)
        _, y = networks.propagate(self.network, self.network.homogeneous(x), lambda layer, z: z * gates[layer])
        return y.reshape(len(x), *self.network.output_shape)


class PatternCollector:
    """Collects the distinct patterns of a stream of points, where the network's weights are."""

    def __init__(self, network: ReluNetwork) -> None:
        """Start with no pattern.

        Args:
            network: The network.
        """
        self.network = network
        empty = torch.zeros(0, network.inputs, dtype=torch.float64)
        self._packed = pack(activation_pattern(network, empty))
        self._counts = torch.zeros(0, dtype=torch.int64, device=self._packed.device)

    def update(self, x: Float[Tensor, "point ..."]) -> None:
        """Add points.

        Args:
            x: The points.
        """
        packed = pack(activation_pattern(self.network, x))
        self._merge(packed, torch.ones(len(packed), dtype=torch.int64, device=packed.device))

    def gather(self, accelerator: Any) -> None:
        """Add what the other processes of a distributed run have collected.

        Args:
            accelerator: The `accelerate.Accelerator` of the run; every process must call this.
        """
        padded = (accelerator.pad_across_processes(part) for part in (self._packed, self._counts))
        packed, counts = (accelerator.gather(part) for part in padded)
        self._packed, self._counts = self._packed[:0], self._counts[:0]
        self._merge(packed[counts > 0], counts[counts > 0])  # padding has no count

    def index(self) -> PatternIndex:
        """Finish.

        Returns:
            The index of everything added, the same for any order and any split of the points.

        Raises:
            StatisticsError: No point was added.
        """
        if not len(self._counts):
            raise StatisticsError("No point was added, so there is no pattern to index. Was the data set empty?")
        return PatternIndex(self.network, hashed(self._packed), self._packed, self._counts)

    def _merge(self, packed: Tensor, counts: Tensor) -> None:
        """Join more patterns to those known, sorted by hash, each once."""
        packed, counts = torch.cat([self._packed, packed]), torch.cat([self._counts, counts])
        hashes, group = hashed(packed).unique(return_inverse=True)
        first = torch.full_like(hashes, len(packed)).scatter_reduce(
            0, group, torch.arange(len(packed), device=packed.device), "amin"
        )
        if not (packed == packed[first][group]).all():
            raise StatisticsError("Two activation patterns have the same 64-bit hash. Index the data in two parts.")
        self._packed = packed[first]
        self._counts = torch.zeros_like(hashes).scatter_add(0, group, counts)


@checked_arguments
def index_patterns(
    network: nn.Module | ReluNetwork,
    batches: Iterable[Float[Tensor, "..."]],
    accelerator: Any = None,
) -> PatternIndex:
    """Index the linear regions that a data set visits.

    Args:
        network: The network, or a module that `read_network` can read.
        batches: The points, in batches. In a distributed run, those of this process.
        accelerator: The `accelerate.Accelerator` of a distributed run; all its processes get the same index.

    Returns:
        The index.
    """
    collector = PatternCollector(read_network(network))
    for batch in batches:
        collector.update(batch)
    if accelerator is not None:
        collector.gather(accelerator)
    return collector.index()


# The finishing steps of the splitmix64 generator: shift, xor, multiply; its constants as signed numbers.
_STEPS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))
_GOLDEN = -0x61C8864680B583EB


def pack(patterns: Bool[Tensor, "point neuron"]) -> UInt8[Tensor, "point byte"]:
    """Pack patterns, the first neuron into the lowest bit.

    Args:
        patterns: One bit for each neuron.

    Returns:
        As many bytes as hold them, in groups of eight.
    """
    neurons = patterns.shape[1]
    groups = 8 * max(1, -(-neurons // 64))  # whole 64-bit words, to hash them
    padded = torch.nn.functional.pad(patterns, (0, 8 * groups - neurons)).unflatten(1, (groups, 8))
    values = 2 ** torch.arange(8, device=patterns.device)
    return (padded * values).sum(dim=-1).to(torch.uint8)


def unpack(packed: UInt8[Tensor, "point byte"], neurons: int) -> Bool[Tensor, "point neuron"]:
    """Undo `pack`.

    Args:
        packed: Packed patterns.
        neurons: How many neurons they have.

    Returns:
        The patterns.
    """
    bits = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return ((packed[:, :, None] >> bits) & 1).flatten(1)[:, :neurons].bool()


def hashed(packed: UInt8[Tensor, "point byte"]) -> Int64[Tensor, " point"]:
    """Hash packed patterns to 64 bits, the same on every device and in every process.

    Args:
        packed: Packed patterns.

    Returns:
        One number for each. Different patterns can share one, if with a probability of 2^-64 a pair.
    """
    words = packed.contiguous().view(torch.int64)
    positions = torch.arange(words.shape[1], device=packed.device) * _GOLDEN
    return _scrambled(_scrambled(words + positions).sum(dim=1) + _GOLDEN)


def _scrambled(words: Tensor) -> Tensor:
    """Spread each bit over the whole word; overflow is meant to wrap around."""
    for shift, factor in _STEPS:
        words = (words ^ _shifted(words, shift)) * factor
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, shift: int) -> Tensor:
    """Shift right and fill with zeros; torch itself repeats the sign bit."""
    return (words >> shift) & ((1 << (64 - shift)) - 1)
