"""How much the loss rises when one layer alone loses neurons, and which share of each layer goes by that."""

from collections.abc import Sequence

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.masks.select import remove_top
from hf_untangle.pruning.scored_model import ScoredModel

MOST = 0.9
"""No layer loses a larger share."""
LEAST = 0.1
"""Rises below this part of the median count as it: next to nothing is told from nothing by few tokens."""


def loss_rises(scored: ScoredModel, ffns: Sequence[NeuronGroup], share: float) -> dict[str, float]:
    """Let every FFN alone lose its least important neurons, and measure by how much the loss rises.

    Args:
        scored: The model and the text.
        ffns: The FFNs.
        share: The share of the neurons of one that goes.

    Returns:
        Nats per token, by group; one pass over the tokens of the search for each.
    """
    scores = {name: -worth for name, worth in scored.importance.items()}
    before = scored.loss(scored.everything)
    return {group.name: scored.loss(remove_top(scored.everything, scores, (group,), {"ffn": share})) - before for group in ffns}


def shares_by(rises: Sequence[float], share: float) -> tuple[float, ...]:
    """Give sensitive layers a small share, with the same mean.

    If the loss rises with the square of a share, as it does where nothing was removed at a minimum of the loss, the sum of all
    rises s x^2 is least, among shares x of the same mean, where x is proportional to 1/s.

    Args:
        rises: By how much the loss rises for each layer that loses the mean share.
        share: The mean.

    Returns:
        A share for each layer, at most 0.9.
    """
    median = sorted(rises)[len(rises) // 2]
    floor = max(LEAST * median, 1e-9)
    weights = [1 / max(rise, floor) for rise in rises]
    shares, free = [0.0] * len(weights), set(range(len(weights)))
    left = share * len(weights)
    while free:
        scale = left / sum(weights[number] for number in free)
        full = {number for number in free if scale * weights[number] > MOST}
        if not full:
            for number in free:
                shares[number] = scale * weights[number]
            break
        for number in full:
            shares[number] = MOST
        left, free = left - MOST * len(full), free - full
    return tuple(shares)
