"""What a trained model's bits do on a set of items, and how well it solves problems when some of them are masked."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.errors import StatisticsError
from hf_untangle.papers.contrast.channel import replace_bits
from hf_untangle.papers.contrast.encoders import Items
from hf_untangle.papers.contrast.modeling import ContrastModel
from hf_untangle.papers.contrast.problems import Problems
from hf_untangle.statistics.moments import MomentAccumulator, Moments

BATCH = 512
LARGEST_CORRECTION = 0.05
"""Of an entropy, in bits, for a set of items to be large enough."""


@dataclass(frozen=True, eq=False)
class EncodedItems:
    """A set of items as both sides of a model see it: all that solving problems needs, whatever is masked."""

    bits: Float[Tensor, "item bit"]
    """Hard messages, 0 and 1."""
    features: Float[Tensor, "item feature"]
    """The same items as the solver sees them."""


def encode(model: ContrastModel, items: Items) -> EncodedItems:
    """Encode every item once.

    Args:
        model: The model.
        items: The items.

    Returns:
        Messages and features.
    """
    with evaluation_mode(model), torch.inference_mode():
        pairs = [(model.message(some), model.problem_encoder(some)) for some in items.to(model.device).split(BATCH)]
    return EncodedItems(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))


def bit_moments(encoded: EncodedItems) -> Moments:
    """Count how often every bit is on.

    Args:
        encoded: The items.

    Returns:
        Sums over items, a bit instead of a neuron.

    Raises:
        StatisticsError: There are so few items that the correction of an entropy, 1 / (2 N ln 2) bits, is above 0.05.
    """
    least = math.ceil(1 / (2 * math.log(2) * LARGEST_CORRECTION))
    if len(encoded.bits) < least:
        raise StatisticsError(
            f"The entropy of a bit needs at least {least} items, so that its correction stays under {LARGEST_CORRECTION} bits, "
            f"but the set has {len(encoded.bits)}. Pass a larger set."
        )
    accumulator = MomentAccumulator(encoded.bits.shape[1], encoded.bits.device)
    accumulator.update(encoded.bits)
    return accumulator.result()


def accuracy(
    model: ContrastModel,
    encoded: EncodedItems,
    problems: Problems,
    kept: Bool[Tensor, " bit"],
    constants: Float[Tensor, " bit"],
) -> float:
    """Share of problems that are solved when some bits are replaced by constants.

    Args:
        model: The model.
        encoded: The items that the problems are made of.
        problems: Problems over them.
        kept: Which bits arrive.
        constants: What is read instead of the others.

    Returns:
        From 0 to 1.
    """
    hits = 0
    message = replace_bits(encoded.bits, kept.to(encoded.bits.device), constants.to(encoded.bits))
    with evaluation_mode(model), torch.inference_mode():
        for some in torch.arange(len(problems.labels)).split(BATCH):
            logits = model.solve(message[problems.answers[some]], encoded.features[problems.choices[some]])
            hits += int((logits.argmax(-1).cpu() == problems.labels[some]).sum())
    return hits / len(problems.labels)
