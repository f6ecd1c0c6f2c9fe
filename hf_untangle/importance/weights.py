"""Importance without a corpus: by the weights alone, or by nothing. The controls that any other must beat."""

import zlib

import torch

from hf_untangle.importance.observations import Neurons, Observations


def magnitude(seen: Observations) -> Neurons:
    """Euclidean norm of all weights of a neuron: the column that reads it, the rows and the biases that compute it."""
    return (seen.norms.column.square() + seen.norms.rows.square()).sqrt()


def random(seen: Observations) -> Neurons:
    """A number between 0 and 1 for each neuron, the same for the same seed and group."""
    generator = torch.Generator().manual_seed(seen.seed + zlib.crc32(seen.group.encode()))
    return torch.rand(len(seen.activations.total), generator=generator, dtype=torch.float64)
