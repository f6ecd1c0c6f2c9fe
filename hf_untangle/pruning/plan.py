"""Deciding what a compression removes, before anything is touched."""

from dataclasses import dataclass

from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, Part
from hf_untangle.display import notebook_html, rows_table, short_repr, table_text
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError
from hf_untangle.importance.observations import Neurons, Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.masks.select import remove_top
from hf_untangle.models import name_and_revision
from hf_untangle.progress import Work, phase, plan_work, predict
from hf_untangle.pruning.step import ablation_constants
from hf_untangle.pruning.work import seconds_per_token
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.statistics.weight_norms import WeightNorms, weight_norms

TINY = 1e-30
"""Added to no sum, but put in its place where nothing is worth anything."""


@checked_calls
@dataclass(frozen=True, eq=False)
class PrunePlan:
    """What is to be removed from a model, and why."""

    mask: NeuronMask
    """Which neurons are to stay."""
    groups: tuple[NeuronGroup, ...]
    """All neuron groups of the model."""
    importance: dict[str, Neurons]
    """What each FFN neuron is worth, by group."""
    weights: dict[str, WeightNorms]
    """Norms of the weights of the same groups."""
    constants: Constants | None
    """What removed neurons are to read; zero when None."""
    parameters: int
    """Numbers in the model's tensors."""
    parameters_removed: int
    """How many of them belong to the neurons that go."""
    corpus: Corpus
    """The text that the neurons were looked at on."""
    statistics: ActivationStatistics
    """What they did there."""
    config: PruneConfig
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say what goes where, layer by layer, and what it is worth.

        Returns:
            Lines of text: the sum of it all, then the table.
        """
        share = self.parameters_removed / self.parameters
        reads = "zero" if self.constants is None else f"its {self.config.ablation}, through a bias"
        lines = [
            f"{self.mask.describe()}: {self.parameters_removed:,} of {self.parameters:,} parameters ({share:.1%})",
            f"by the lowest {self.config.importance} on {self.statistics.tokens:,} tokens of {self.corpus.name} "
            f"({self.corpus.source}); a removed neuron reads {reads}",
        ]
        return "\n".join([*lines, "", table_text(self.table())])

    def table(self) -> Table:
        """Lay out what goes, layer by layer.

        Returns:
            A row for each FFN.
        """
        headings = ("layer", "neurons", "go", "stay", "share", f"{self.config.importance} that goes")
        return rows_table(headings, (self._row(group) for group in self.groups if group.kind == "ffn"), names=0)

    def _row(self, group: NeuronGroup) -> tuple[str, ...]:
        """One layer of the table."""
        kept, worth = self.mask[group.name], self.importance[group.name].abs()
        gone = int((~kept).sum())
        lost = float(worth[~kept].sum() / worth.sum().clamp_min(TINY))
        stay = group.size - gone
        return f"{group.layer}", f"{group.size:,}", f"{gone:,}", f"{stay:,}", f"{gone / group.size:.1%}", f"{lost:.1%}"


def read_blocks(source: Corpus, tokenizer: PreTrainedTokenizerBase, part: Part, config: PruneConfig) -> TokenBlocks:
    """Read one part of the corpus, as the settings say.

    Args:
        source: The corpus.
        tokenizer: The model's tokenizer.
        part: Statistics are collected on `train`, which has tokens of its own number.
        config: The settings.

    Returns:
        The blocks.
    """
    tokens = config.tokens if part == "train" else config.evaluation_tokens
    how = {"block_size": config.block_size, "packed": config.packed}
    return token_blocks(source, tokenizer, tokens=tokens, part=part, **how)


def make_plan(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    blocks: TokenBlocks,
    config: PruneConfig,
    *,
    progress: bool,
) -> PrunePlan:
    """Look at the FFN neurons of a model, and choose those that go.

    Args:
        model: The model, which is left as it was.
        groups: Its neuron groups.
        blocks: The text to look at them on.
        config: The settings.
        progress: Whether to show progress bars.

    Returns:
        The plan.

    Raises:
        ConfigError: The budget asks for nothing, for too much, or for other layers than the model has.
    """
    plan_work(_reading_work(config, blocks.mine().tokens))
    if progress:
        predict(lambda: seconds_per_token(model, blocks))
    phase("looking at neurons")
    ffns = tuple(group for group in groups if group.kind == "ffn")
    name, revision = name_and_revision(model)
    everything = NeuronMask.keep_all(groups, name, config.ablation, revision)
    shares = _shares(model, groups, everything, config)
    how = {"batch_size": config.batch_size, "progress": progress}
    statistics = collect(model, blocks, groups=ffns, roots="roots" in IMPORTANCE[config.importance].needs, **how)
    weights = weight_norms(model, ffns)
    importance = _importance(model, ffns, blocks, statistics, weights, config, progress)
    mask = _lowest_removed(everything, importance, ffns, shares, config)
    return PrunePlan(
        mask=mask,
        groups=groups,
        importance=importance,
        weights=weights,
        constants=ablation_constants(config.ablation, model, statistics, blocks, ffns, **how),
        parameters=model.num_parameters(),
        parameters_removed=removed_parameters(model, mask, groups),
        corpus=blocks.corpus,
        statistics=statistics,
        config=config,
    )


def judging_work(config: PruneConfig) -> Work:
    """Count what it takes to judge a plan on held-out text, and to refit what is kept.

    Args:
        config: The settings.

    Returns:
        Tokens of each kind of work that this process does.
    """
    refits = config.compensate == "least-squares"
    # The original, the result, the smallest weights, and random masks; after a refit the result without it too.
    judged = (3 + config.controls + refits) * config.evaluation_tokens
    return {"statistics": refits * config.tokens // place()[1], "forward": judged // place()[1]}


def _reading_work(config: PruneConfig, tokens: int) -> Work:
    """What it takes to look at all neurons once."""
    gradients = "gradients" in IMPORTANCE[config.importance].needs
    return {"statistics": tokens, "gradients": min(tokens, config.gradient_tokens) if gradients else 0}


def _shares(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], everything: NeuronMask, config: PruneConfig
) -> tuple[float, ...]:
    """The share of each FFN that the budget takes."""
    ffns = [group.name for group in groups if group.kind == "ffn"]
    if config.per_layer is not None:
        if len(config.per_layer) != len(ffns):
            raise ConfigError(
                f"per_layer must have a share for each of the {len(ffns)} FFNs of `{everything.model}`, got "
                f"{len(config.per_layer)}. Give 0 to a layer that is to stay whole."
            )
        return config.per_layer
    if config.parameters is None:
        return (config.ratio,) * len(ffns)
    without_ffns = everything.with_kept(dict(everything) | {name: ~everything[name] for name in ffns})
    removable = removed_parameters(model, without_ffns, groups)
    if config.parameters >= removable:
        raise ConfigError(
            f"parameters must be below the {removable:,} that all FFN neurons of `{everything.model}` have, but "
            f"{config.parameters:,} came."
        )
    return (config.parameters / removable,) * len(ffns)


def _importance(
    model: PreTrainedModel,
    ffns: tuple[NeuronGroup, ...],
    blocks: TokenBlocks,
    statistics: ActivationStatistics,
    weights: dict[str, WeightNorms],
    config: PruneConfig,
    progress: bool,
) -> dict[str, Neurons]:
    """What every FFN neuron is worth, with gradients where they are needed."""
    importance = IMPORTANCE[config.importance]
    saliency = {}
    if "gradients" in importance.needs:
        few = blocks.first(max(1, config.gradient_tokens // config.block_size))
        # A backward pass holds all activations and the logits of a batch, so it gets smaller batches.
        saliency = collect_saliency(model, few, groups=ffns, batch_size=max(1, config.batch_size // 4), progress=progress)
    return {
        name: importance(Observations(moments, saliency.get(name), weights[name], name, config.seed))
        for name, moments in statistics.items()
    }


def _lowest_removed(
    everything: NeuronMask,
    importance: dict[str, Neurons],
    ffns: tuple[NeuronGroup, ...],
    shares: tuple[float, ...],
    config: PruneConfig,
) -> NeuronMask:
    """Remove the least important neurons, of each layer by its share or of all layers together."""
    mask, scores = everything, {name: -worth for name, worth in importance.items()}
    if config.allocation == "global":
        # Layers differ in scale for reasons that have nothing to do with what they are worth.
        relative = {name: score / score.abs().mean().clamp_min(TINY) for name, score in scores.items()}
        mask = remove_top(mask, relative, ffns, {"ffn": shares[0]})
    else:
        for group, share in zip(ffns, shares, strict=True):
            mask = remove_top(mask, scores, (group,), {"ffn": share})
    if not mask.removed():
        raise ConfigError(
            f"The budget must remove at least one of {everything.neurons('ffn'):,} FFN neurons, but it rounds to 0. "
            "Raise ratio, parameters or per_layer."
        )
    return mask
