"""One program for a whole population: every individual learns and is judged in the same batched operations."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from hf_untangle.nets.genes import Genes

Examples = tuple[Tensor, Tensor]
"""Inputs and class labels, [example, ...] and [example]."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss of some outputs and labels."""
Rows = Float[Tensor, "individual gene"]


@dataclass(frozen=True, eq=False)
class Program:
    """A network whose parameters come as rows of a matrix."""

    network: nn.Module
    """Gives the structure; its own parameters are never read or written to."""
    genes: Genes
    loss: Loss = F.cross_entropy
    chunk: int | None = None
    """Individuals in one batched operation, as memory allows; all of them when None."""

    def outputs(self, parameters: Float[Tensor, " gene"], inputs: Tensor) -> Tensor:
        """Outputs of one individual."""
        return functional_call(self.network, self.genes.unflatten(parameters), (inputs,))

    def losses(self, parameters: Rows, examples: Examples) -> Float[Tensor, " individual"]:
        """Mean loss of every individual on the same examples."""
        return self._over_individuals(self._loss_of_one)(parameters, *examples)

    def accuracies(self, parameters: Rows, examples: Examples) -> Float[Tensor, " individual"]:
        """Share of examples that every individual classifies right, from 0 to 1."""
        inputs, labels = examples
        outputs = self._over_individuals(self.outputs, labels=False)(parameters, inputs)
        return (outputs.argmax(-1) == labels).double().mean(-1)

    def gradients(self, parameters: Rows, examples: Examples) -> Rows:
        """Gradient of every individual's own loss."""
        return self._over_individuals(grad(self._loss_of_one))(parameters, *examples)

    def learn(
        self, parameters: Rows, kept: Bool[Tensor, "individual gene"], batches: Iterable[Examples], *, rate: float
    ) -> Rows:
        """Take one masked step of gradient descent a batch: removed genes are zero before and after it.

        Args:
            parameters: Where each individual starts.
            kept: Its mask.
            batches: Examples, the same for all individuals.
            rate: The learning rate.

        Returns:
            What has been learned.
        """
        learned = parameters * kept
        for batch in batches:
            learned = (learned - rate * self.gradients(learned, batch)) * kept
        return learned

    def _loss_of_one(self, parameters: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of one individual."""
        return self.loss(self.outputs(parameters, inputs), labels)

    def _over_individuals(self, function: Callable[..., Tensor], *, labels: bool = True) -> Callable[..., Tensor]:
        """Run a function of one individual on all of them at once."""
        return vmap(function, in_dims=(0, None, None) if labels else (0, None), chunk_size=self.chunk)


def minibatches(examples: Examples, *, steps: int, size: int, generator: torch.Generator) -> Iterable[Examples]:
    """Draw examples with replacement, a batch a step.

    Args:
        examples: What to draw from.
        steps: How many batches.
        size: Examples in a batch.
        generator: For the draw.

    Yields:
        Batches.
    """
    inputs, labels = examples
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (size,), generator=generator)
        yield inputs[chosen], labels[chosen]
