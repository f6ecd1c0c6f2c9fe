"""Other ways to a mask, at the density that a ticket has in each layer.

Each takes a program, one row of initial parameters and the densities of the weights by name, and gives a mask over all genes.
Ranking is inside each weight, so that every method spends the same number of weights in the same layers; SNIP and SynFlow as
published rank over the whole network.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.nets.functional import Examples, Program, minibatches
from hf_untangle.nets.genes import Genes
from hf_untangle.nets.search_config import NetsConfig

Parameters = Float[Tensor, "1 gene"]
Kept = Bool[Tensor, "1 gene"]
Densities = dict[str, float]


def random_mask(genes: Genes, densities: Densities, generator: torch.Generator) -> Kept:
    """Keep weights drawn at random: the control for every other mask.

    Args:
        genes: The network's genes.
        densities: Share to keep of each weight.
        generator: For the draw.

    Returns:
        The mask.
    """
    return keep_top(torch.rand(1, len(genes.maskable), generator=generator), genes, densities)


def keep_top(scores: Float[Tensor, "1 gene"], genes: Genes, densities: Densities) -> Kept:
    """Keep the highest scores inside each weight.

    Args:
        scores: One number per gene; only those of maskable weights count.
        genes: The network's genes.
        densities: Share to keep of each weight.

    Returns:
        The mask; genes that no mask may take stay.
    """
    kept = torch.ones_like(scores, dtype=torch.bool)
    masks, parts = genes.unflatten(kept[0]), genes.unflatten(scores[0])
    for name, density in densities.items():
        chosen = parts[name].flatten().topk(round(density * parts[name].numel())).indices
        masks[name].view(-1).fill_(False)[chosen] = True
    return kept


def iterative_magnitude(
    program: Program,
    start: Parameters,
    densities: Densities,
    train: Examples,
    *,
    config: NetsConfig,
    rounds: int,
    steps: int,
    generator: torch.Generator,
) -> Kept:
    """Iterative magnitude pruning with rewinding (Frankle and Carbin 2019, arXiv:1803.03635).

    Each round trains from the initial parameters under the mask so far, and removes the same share of what is left by
    magnitude.

    Args:
        program: The network.
        start: What every round is rewound to.
        densities: Where the last round ends.
        train: Inputs and labels.
        config: Gives batch size and learning rate.
        rounds: How many rounds.
        steps: Gradient steps a round.
        generator: For the batches.

    Returns:
        The mask.
    """
    kept = torch.ones_like(start, dtype=torch.bool)
    for number in range(1, rounds + 1):
        batches = minibatches(train, steps=steps, size=config.batch_size, generator=generator)
        magnitudes = program.learn(start, kept, batches, rate=config.learning_rate).abs()
        kept = keep_top(magnitudes, program.genes, _on_the_way(densities, number / rounds))
    return kept


def snip(program: Program, start: Parameters, densities: Densities, examples: Examples) -> Kept:
    """SNIP (Lee et al. 2019, arXiv:1810.02340): keep the weights whose |weight x gradient| is largest before any training.

    Args:
        program: The network.
        start: The initial parameters.
        densities: Share to keep of each weight.
        examples: What the gradient is taken on.

    Returns:
        The mask.
    """
    return keep_top((start * program.gradients(start, examples)).abs(), program.genes, densities)


def synflow(program: Program, start: Parameters, densities: Densities, inputs: Tensor, *, rounds: int = 100) -> Kept:
    """SynFlow (Tanaka et al. 2020, arXiv:2006.05467): keep the weights that carry most flow, without data.

    The flow is the sum of the outputs for an input of ones through the absolute values of all parameters; a weight's share is
    |weight| x its gradient. It is taken anew after each of the rounds, in which density falls exponentially.

    Args:
        program: The network; its activations must let positive numbers through, as ReLU does.
        start: The initial parameters.
        densities: Where the last round ends.
        inputs: Gives the shape of an input.
        rounds: How many rounds.

    Returns:
        The mask.
    """
    # A flow is a product over layers, which float32 could overflow.
    magnitudes, ones = start.abs().double(), torch.ones_like(inputs[:1], dtype=torch.float64)
    flow = torch.func.grad(lambda parameters: program.outputs(parameters, ones).sum())
    kept = torch.ones_like(start, dtype=torch.bool)
    for number in range(1, rounds + 1):
        carried = magnitudes * kept
        kept = keep_top(carried * flow(carried[0])[None], program.genes, _on_the_way(densities, number / rounds))
    return kept


def _on_the_way(densities: Densities, share: float) -> Densities:
    """Densities part of the way down from 1, at the same ratio each round."""
    return {name: density**share for name, density in densities.items()}
