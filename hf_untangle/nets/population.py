"""A population: for every individual its initial parameters, and a mask over them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from hf_untangle.files.tensors import Content
from hf_untangle.nets.genes import Genes, fresh_parameters


@dataclass(frozen=True, eq=False)
class Population:
    """Genomes: initial parameters and masks, one row per individual."""

    parameters: Float[Tensor, "individual gene"]
    """What each individual starts to learn from."""
    kept: Bool[Tensor, "individual gene"]
    """Which genes stay; always True where a gene cannot be masked."""

    def __len__(self) -> int:
        """The number of individuals."""
        return len(self.parameters)

    def __getitem__(self, rows: Tensor | slice) -> "Population":
        """Some of the individuals."""
        return Population(self.parameters[rows], self.kept[rows])

    def __add__(self, other: "Population") -> "Population":
        """The individuals of both."""
        return Population(torch.cat([self.parameters, other.parameters]), torch.cat([self.kept, other.kept]))

    def distinct(self) -> int:
        """How many different genomes there are, parameters and masks together."""
        genomes = torch.where(self.kept, self.parameters, torch.inf)
        return len(genomes.unique(dim=0))


def first_population(network: nn.Module, genes: Genes, size: int, *, density: float, seed: int) -> Population:
    """Draw the first generation: initializations of the network, with random masks.

    Args:
        network: The network.
        genes: Its genes.
        size: How many individuals.
        density: The probability with which a maskable weight stays.
        seed: For both draws.

    Returns:
        The population.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(size, len(genes.maskable), generator=generator) < density
    return Population(fresh_parameters(network, genes, size, seed), drawn | ~genes.maskable)


def packed(kept: Bool[Tensor, "individual gene"]) -> UInt8[Tensor, "individual byte"]:
    """Store masks at eight genes a byte.

    Args:
        kept: The masks.

    Returns:
        Bytes, the last one of a row padded with zeros.
    """
    return torch.from_numpy(np.packbits(kept.numpy(), axis=-1))


def unpacked(stored: UInt8[Tensor, "individual byte"], genes: int) -> Bool[Tensor, "individual gene"]:
    """Read what `packed` stored.

    Args:
        stored: Bytes.
        genes: How many genes a row has.

    Returns:
        The masks.
    """
    return torch.from_numpy(np.unpackbits(stored.numpy(), axis=-1, count=genes)).bool()


def has_genes(content: Content[Any], genes: int) -> bool:
    """Tell whether the population in a file has so many genes.

    Args:
        content: What is in the file.
        genes: How many genes an individual has.

    Returns:
        Whether its parameters are a matrix of as many columns.
    """
    parameters = content.tensors.get("parameters")
    return parameters is not None and parameters.ndim == 2 and parameters.shape[1] == genes


def read_population(content: Content[Any], size: int, genes: int, prefix: str = "") -> Population:
    """Read a population that a file holds.

    Args:
        content: What is in the file.
        size: How many individuals it must have.
        genes: How many genes each has.
        prefix: What its tensors' names begin with.

    Returns:
        The population.

    Raises:
        UntangleError: Its parameters or masks are missing, of another shape, or not finite.
    """
    parameters = content.finite(f"{prefix}parameters", (size, genes))
    stored = content.take(f"{prefix}kept", (size, -(-genes // 8)), (torch.uint8,))
    return Population(parameters, unpacked(stored, genes))
