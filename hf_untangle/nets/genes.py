"""Genes: the parameters of a network as one vector, and which of them a mask may take."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.errors import ArchitectureError
from hf_untangle.randomness import random_state_kept

MASKABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weights a mask may take. Biases and norms always stay."""


@dataclass(frozen=True)
class Genes:
    """Where each parameter of a network lies in a vector of all of them."""

    shapes: dict[str, torch.Size]
    """The shape of every parameter, in the network's own order."""
    maskable: Bool[Tensor, " gene"]
    """Which genes are weights of linear and convolutional layers."""

    @property
    def weights(self) -> int:
        """How many genes a mask may take."""
        return int(self.maskable.sum())

    def flatten(self, parameters: dict[str, Tensor]) -> Float[Tensor, " gene"]:
        """Put the parameters of one network into a vector.

        Args:
            parameters: Tensors by name.

        Returns:
            All of them, one after the other.
        """
        return torch.cat([parameters[name].detach().reshape(-1) for name in self.shapes])

    def unflatten(self, genes: Tensor) -> dict[str, Tensor]:
        """Cut a vector into the parameters of a network.

        Args:
            genes: One number per gene, of any dtype.

        Returns:
            Tensors by name, as views.
        """
        parts = genes.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def masks(self, kept: Bool[Tensor, " gene"]) -> dict[str, Bool[Tensor, "..."]]:
        """The masks of the weights that may be taken, by name.

        Args:
            kept: Which genes stay.

        Returns:
            One mask a weight, in its shape.
        """
        maskable = self.unflatten(self.maskable)
        return {name: mask for name, mask in self.unflatten(kept).items() if maskable[name].all()}

    def density(self, kept: Bool[Tensor, "individual gene"]) -> Float[Tensor, " individual"]:
        """Share of the maskable weights that each individual keeps, from 0 to 1."""
        return (kept & self.maskable).sum(-1) / self.weights


def genes_of(network: nn.Module) -> Genes:
    """Read which genes a network has.

    Args:
        network: A network with linear or convolutional layers.

    Returns:
        Their places.

    Raises:
        ArchitectureError: Nothing in it can be masked, some weights are computed again whenever it runs, or it updates running
            statistics, which a batched population cannot.
    """
    check_not_recomputed(network)
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            raise ArchitectureError(
                f"A population learns in one batched program, where `{name}` cannot keep running statistics of each "
                "individual. Replace batch norm by group norm."
            )
    weights = {f"{name}.weight".lstrip(".") for name, module in network.named_modules() if isinstance(module, MASKABLE)}
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    if not weights & shapes.keys():
        raise ArchitectureError(
            f"A mask is searched over the weights of linear and convolutional layers, but {type(network).__name__} has none."
        )
    maskable = torch.cat([torch.full((shape.numel(),), name in weights) for name, shape in shapes.items()])
    return Genes(shapes, maskable)


def fresh_parameters(network: nn.Module, genes: Genes, count: int, seed: int) -> Float[Tensor, "individual gene"]:
    """Initialize a network anew, several times, each layer by its own initializer.

    Args:
        network: The network, which is left as it was.
        genes: Its genes.
        count: How many initializations.
        seed: For the initializers.

    Returns:
        One row an initialization.
    """
    draft = copy.deepcopy(network)
    rows = []
    with random_state_kept():
        torch.manual_seed(seed)
        for _ in range(count):
            for module in draft.modules():
                if callable(getattr(module, "reset_parameters", None)):
                    module.reset_parameters()  # pyright: ignore[reportCallIssue]
            rows.append(genes.flatten(dict(draft.named_parameters())))
    return torch.stack(rows)
