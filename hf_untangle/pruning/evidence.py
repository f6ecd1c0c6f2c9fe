"""What a step knows about the neurons of a model, and which of them it removes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import Kind, NeuronGroup
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.importance.functions import IMPORTANCE
from hf_untangle.importance.scores import SCORES
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import remove_top
from hf_untangle.pruning.config import UnlearnConfig
from hf_untangle.statistics.activations import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import Saliency, collect_saliency

NeuronScores = dict[str, Float[Tensor, " neuron"]]
"""One vector a group; the highest go first."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Blocks of the forget corpus, and of the retain corpus."""

    forget: TokenBlocks
    retain: TokenBlocks


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about the neurons of a model, as it is pruned so far, on both corpora."""

    forget: ActivationStatistics
    retain: ActivationStatistics
    forget_saliency: dict[str, Saliency]
    """How the loss hangs on neurons; empty when the settings go by the score alone."""
    retain_saliency: dict[str, Saliency]


def read_pair(
    forget: CorpusSource,
    retain: CorpusSource,
    tokenizer: PreTrainedTokenizerBase,
    part: Part,
    config: UnlearnConfig,
) -> Pair:
    """Read one part of both corpora, as the settings say.

    Args:
        forget: The corpus whose capability goes.
        retain: The corpus whose capability stays.
        tokenizer: The model's tokenizer.
        part: Which part; statistics are collected on `train`, and it has tokens of its own number.
        config: The settings.

    Returns:
        The blocks.
    """
    tokens = config.tokens if part == "train" else config.evaluation_tokens

    def read(source: CorpusSource) -> TokenBlocks:
        how = {"block_size": config.block_size, "packed": config.packed, "bos": config.bos}
        return token_blocks(source, tokenizer, tokens=tokens, part=part, **how)

    return Pair(read(forget), read(retain))


def gather(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], train: Pair, config: UnlearnConfig, *, progress: bool
) -> Evidence:
    """Look at the neurons of a model as it is now.

    Args:
        model: The model, masked or not.
        groups: Its neuron groups.
        train: Tokens of both corpora.
        config: The settings.
        progress: Whether to show progress bars.

    Returns:
        Statistics of both corpora, with the gradients that the settings ask for.
    """

    def activations(blocks: TokenBlocks) -> ActivationStatistics:
        roots = config.importance == "sqrt"
        return collect(model, blocks, groups=groups, batch_size=config.batch_size, roots=roots, progress=progress)

    def saliency(blocks: TokenBlocks, tokens: int) -> dict[str, Saliency]:
        if config.candidates == 1:
            return {}
        few = blocks.first(max(1, tokens // config.block_size))
        # A backward pass holds all activations and the logits of a batch, so it gets smaller batches.
        return collect_saliency(model, few, groups=groups, batch_size=max(1, config.batch_size // 4), progress=progress)

    return Evidence(
        activations(train.forget),
        activations(train.retain),
        saliency(train.forget, config.gradient_tokens // 2),
        saliency(train.retain, config.gradient_tokens),
    )


def remove_next(mask: NeuronMask, evidence: Evidence, groups: tuple[NeuronGroup, ...], config: UnlearnConfig) -> NeuronMask:
    """Add the neurons that go next to a mask.

    Args:
        mask: What is removed already.
        evidence: What is known about the model with this mask.
        groups: The neuron groups.
        config: The settings.

    Returns:
        A mask that keeps less.
    """

    def top(scores: NeuronScores, fractions: dict[Kind, float]) -> NeuronMask:
        return remove_top(mask, scores, groups, fractions, scope=config.scope, head_score=config.head_score)

    scores = neuron_scores(evidence.forget, evidence.retain, groups, config)
    if not evidence.forget_saliency:
        return top(scores, config.fractions())
    without_candidates = top(scores, config.fractions(times=config.candidates))
    return top(predicted_gains(without_candidates, evidence, config.retain_weight), config.fractions())


def neuron_scores(
    forget: ActivationStatistics, retain: ActivationStatistics, groups: tuple[NeuronGroup, ...], config: UnlearnConfig
) -> NeuronScores:
    """Score every neuron by the settings' importance, score and epsilon.

    Args:
        forget: Statistics of the forget corpus.
        retain: Statistics of the retain corpus.
        groups: The neuron groups.
        config: The settings.

    Returns:
        One vector a group; minus infinity for neurons that the veto spares.
    """
    importance, score, eps = IMPORTANCE[config.importance], SCORES[config.score], config.eps()
    scores = {}
    for group in groups:
        to_forget, to_retain = importance(forget[group.name]), importance(retain[group.name])
        scores[group.name] = score(to_forget, to_retain, eps[group.kind])
        spared = to_retain.topk(int(config.veto * group.size)).indices
        scores[group.name][spared] = -torch.inf
    return scores


def predicted_gains(without: NeuronMask, evidence: Evidence, retain_weight: float) -> NeuronScores:
    """Score candidates by what their removal is predicted to do to the loss.

    Args:
        without: A mask that removes the candidates.
        evidence: What is known about the neurons.
        retain_weight: How many nats on the forget corpus a nat on the retain corpus counts as.

    Returns:
        Predicted rise of the forget loss, less the weighted rise of the retain loss; minus infinity for all others.
    """
    gains = {}
    for name, kept in without.items():
        forget, retain = evidence.forget_saliency[name].loss_rise(), evidence.retain_saliency[name].loss_rise()
        gains[name] = (forget - retain_weight * retain).masked_fill(kept, -torch.inf)
    return gains
