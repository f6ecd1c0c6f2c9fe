"""What a step knows about the neurons of a model, and which of them it removes."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import KINDS, Kind, NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batch_size import BatchSize, of_backward_pass
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.data.two_corpora import two_corpora
from hf_untangle.display import fields_repr
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE, Importance, needs_of, parts
from hf_untangle.importance.scores import SCORES, fused
from hf_untangle.masks.ablation import Ablation, Constants, mean_ablation
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import remove_top
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.histogram_modes import collect_modes
from hf_untangle.statistics.saliency import Saliency, collect_saliency, collect_with_saliency
from hf_untangle.statistics.weight_norms import WeightNorms, weight_norms

NeuronScores = dict[str, Float[Tensor, " neuron"]]
"""One vector per group; the highest go first."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Pair:
    """Blocks of the forget corpus, and of the retain corpus."""

    forget: Blocks
    retain: Blocks
    further: tuple[Blocks | None, ...] = ()
    """More blocks of every retain corpus, which are read only where a judgement is close; None where there are no more."""
    __repr__ = fields_repr

    def all(self) -> tuple[Blocks, ...]:
        """All blocks: forget, retain, and what there is further of retain."""
        return self.forget, self.retain, *(one for one in self.further if one is not None)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known about the neurons of a model, as it is pruned so far, on both corpora."""

    forget: ActivationStatistics
    retain: ActivationStatistics
    forget_saliency: dict[str, Saliency]
    """How the loss depends on neurons; empty when the settings need no gradients."""
    retain_saliency: dict[str, Saliency]
    weights: dict[str, WeightNorms] = field(default_factory=dict)
    """Norms of weights; empty when the importance needs none."""

    def of_forget(self, group: str, seed: int = 0) -> Observations:
        """What is known of a group on the forget corpus.

        Args:
            group: Name of the group.
            seed: For the importance that is drawn at random.

        Returns:
            What an importance may look at.
        """
        return self._of(self.forget, self.forget_saliency, group, seed)

    def of_retain(self, group: str, seed: int = 0) -> Observations:
        """What is known of a group on the retain corpus.

        Args:
            group: Name of the group.
            seed: For the importance that is drawn at random.

        Returns:
            What an importance may look at.
        """
        return self._of(self.retain, self.retain_saliency, group, seed)

    def _of(self, statistics: ActivationStatistics, saliency: dict[str, Saliency], group: str, seed: int) -> Observations:
        """What is known of a group on one corpus."""
        return Observations(statistics[group], saliency.get(group), self.weights.get(group), group, seed)


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
        The blocks. Held-out ones are spread over all documents that are read; of the validation part there are further ones.
    """
    how = {"part": part, "block_size": config.block_size, "packed": config.packed, "bos": config.bos}
    gone, kept = two_corpora(forget, retain, chat=config.chat, split=config.split)
    if part == "train":
        return Pair(
            token_blocks(gone, tokenizer, tokens=config.tokens, **how),
            token_blocks(kept, tokenizer, tokens=config.tokens, **how),
        )
    forgotten, retained = (held_out_blocks(one, tokenizer, tokens=config.evaluation_tokens, **how) for one in (gone, kept))
    return Pair(forgotten.first, retained.first, further=retained.further if part == "validation" else ())


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
        Statistics of both corpora, with the gradients and norms that the settings need.
    """
    needs = needs_of(config.importance)

    def activations(blocks: Blocks) -> ActivationStatistics:
        return collect(
            model,
            blocks,
            groups=groups,
            batch_size=config.batch_size,
            roots="roots" in needs,
            max_seconds=config.max_seconds,
            checkpoint_every=config.checkpoint_every,
            progress=progress,
        )

    def saliency(blocks: Blocks) -> dict[str, Saliency]:
        how = {"groups": groups, "batch_size": of_backward_pass(config.batch_size, blocks.width), "progress": progress}
        return collect_saliency(model, blocks, **how) if needs_gradients(config) else {}

    few = gradient_blocks(train, config, 1)
    weights = weight_norms(model, groups) if "weights" in needs else {}
    return Evidence(activations(train.forget), activations(train.retain), saliency(few.forget), saliency(few.retain), weights)


def gather_again(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    train: Pair,
    config: UnlearnConfig,
    *,
    step: int,
    progress: bool,
) -> Evidence:
    """Look at the neurons of a model that was pruned a bit more since they were looked at last.

    Where gradients are needed, the passes that give them give the statistics too: on fewer tokens, which say enough to choose
    candidates by, and on others at every step, so that a run does not fit itself to the few of one step.

    Args:
        model: The model, masked.
        groups: Its neuron groups.
        train: Tokens of both corpora.
        config: The settings.
        step: Number of the step that follows, from 2.
        progress: Whether to show progress bars.

    Returns:
        As `gather`.
    """
    if not needs_gradients(config):
        return gather(model, groups, train, config, progress=progress)
    needs = needs_of(config.importance)
    how = {"groups": groups, "roots": "roots" in needs, "progress": progress}
    few = gradient_blocks(train, config, step)
    (forget, forget_saliency), (retain, retain_saliency) = (
        collect_with_saliency(model, blocks, batch_size=of_backward_pass(config.batch_size, blocks.width), **how)
        for blocks in (few.forget, few.retain)
    )
    weights = weight_norms(model, groups) if "weights" in needs else {}
    return Evidence(forget, retain, forget_saliency, retain_saliency, weights)


def gradient_blocks(train: Pair, config: UnlearnConfig, step: int) -> Pair:
    """Choose the blocks that a step takes gradients on: those after the last step's, and from the beginning after the end.

    Args:
        train: Tokens of both corpora.
        config: The settings.
        step: Number of the step, from 1.

    Returns:
        A part of both.
    """

    def window(blocks: Blocks, tokens: int) -> Blocks:
        there = len(blocks.counted)
        size = min(there, max(1, tokens // blocks.width))
        return blocks.rows((torch.arange(size) + (step - 1) * size) % there)

    return Pair(window(train.forget, config.gradient_tokens // 2), window(train.retain, config.gradient_tokens))


def needs_gradients(config: UnlearnConfig) -> bool:
    """Tell whether the settings look at how the loss depends on neurons.

    Args:
        config: The settings.

    Returns:
        True where candidates are ranked by it, or an importance needs it.
    """
    return config.candidates > 1 or "gradients" in needs_of(config.importance)


def ablation_constants(
    ablation: Ablation,
    model: PreTrainedModel,
    statistics: ActivationStatistics,
    blocks: Blocks,
    groups: tuple[NeuronGroup, ...],
    *,
    batch_size: BatchSize,
    progress: bool,
) -> Constants | None:
    """Find what removed neurons are to read.

    Args:
        ablation: Zero, mean or mode.
        model: The original model.
        statistics: Its statistics on the corpus whose capability stays.
        blocks: The tokens that they were collected on, which the mode needs a second time.
        groups: The neuron groups.
        batch_size: Blocks in a forward pass.
        progress: Whether to show a progress bar.

    Returns:
        One value per neuron, or None for zeros.
    """
    if ablation == "mode":
        return collect_modes(model, blocks, statistics, groups=groups, batch_size=batch_size, progress=progress)
    return mean_ablation(statistics) if ablation == "mean" else None


def remove_next(
    mask: NeuronMask,
    evidence: Evidence,
    groups: tuple[NeuronGroup, ...],
    config: UnlearnConfig,
    share: float = 1.0,
) -> NeuronMask:
    """Add the neurons that go next to a mask.

    Args:
        mask: What is removed already.
        evidence: What is known about the model with this mask.
        groups: The neuron groups.
        config: The settings.
        share: Which part of a full step to take; its neurons are among those of the full one.

    Returns:
        A mask that keeps less.
    """

    def top(scores: NeuronScores, fractions: dict[Kind, float]) -> NeuronMask:
        return remove_top(mask, scores, groups, fractions, scope=config.scope, head_score=config.head_score)

    scores = neuron_scores(evidence, groups, config)
    if config.candidates == 1:
        return top(scores, config.fractions(share))
    without_candidates = top(scores, config.fractions(times=config.candidates))
    return top(predicted_gains(without_candidates, evidence, config.retain_weight), config.fractions(share))


def neuron_scores(evidence: Evidence, groups: tuple[NeuronGroup, ...], config: UnlearnConfig) -> NeuronScores:
    """Score every neuron by the settings' importance, score and epsilon.

    Args:
        evidence: What is known about the neurons.
        groups: The neuron groups.
        config: The settings.

    Returns:
        One vector per group; minus infinity for neurons that the veto spares.
    """
    names = parts(config.importance)
    several = [_scores_by(IMPORTANCE[name], evidence, groups, config) for name in names]
    kinds = [[group.name for group in groups if group.kind == kind] for kind in KINDS]
    scores = several[0] if len(several) == 1 else fused(several, filter(None, kinds))
    for group in groups if config.veto else ():
        # Of several importances, the first says what the retain corpus needs most.
        needed = IMPORTANCE[names[0]](evidence.of_retain(group.name, config.seed))
        scores[group.name][needed.topk(int(config.veto * group.size)).indices] = -torch.inf
    return scores


def _scores_by(
    importance: Importance, evidence: Evidence, groups: tuple[NeuronGroup, ...], config: UnlearnConfig
) -> NeuronScores:
    """Score every neuron by one importance."""
    score, eps = SCORES[config.score], config.eps()
    return {
        group.name: score(
            importance(evidence.of_forget(group.name, config.seed)),
            importance(evidence.of_retain(group.name, config.seed)),
            eps[group.kind],
        ).clone()
        for group in groups
    }


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
