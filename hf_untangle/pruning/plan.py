"""Deciding what a compression removes, before anything is touched."""

from dataclasses import dataclass

from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import read_matrix
from hf_untangle.arguments import checked_calls
from hf_untangle.compensation.choose import REFITS
from hf_untangle.compensation.reconstruct import BATCH
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batch_size import of_backward_pass
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, Part
from hf_untangle.display import notebook_html, rows_table, short_repr, table_text
from hf_untangle.distributed import place
from hf_untangle.importance.observations import Neurons, Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.models import name_and_revision
from hf_untangle.progress import Work, phase, plan_work, predict
from hf_untangle.pruning.choice import Choice, check_budget, choose, members_of
from hf_untangle.pruning.neuron_choice import TINY
from hf_untangle.pruning.scored_model import ScoredModel
from hf_untangle.pruning.step import ablation_constants
from hf_untangle.pruning.work import seconds_per_token
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.gram import collect_grams, passes_of
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.statistics.weight_norms import WeightNorms, weight_norms


@checked_calls
@dataclass(frozen=True, eq=False)
class PrunePlan:
    """What is to be removed from a model, and why."""

    mask: NeuronMask
    """Which neurons are to stay."""
    groups: tuple[NeuronGroup, ...]
    """All neuron groups of the model."""
    importance: dict[str, Neurons]
    """What each neuron is worth, by group: those of FFNs, or of attention where heads go."""
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
    choice: Choice
    """Which units go, and what they were judged by."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def describe(self) -> str:
        """Say what goes where, layer by layer, and what it is worth.

        Returns:
            Lines of text: the sum of it all, then the table.
        """
        share = self.parameters_removed / self.parameters
        reads = "zero" if self.constants is None else f"its {self.config.ablation}, through a bias"
        units = self.choice.describe(self.config)
        lines = [
            f"{self.mask.describe()}: {self.parameters_removed:,} of {self.parameters:,} parameters ({share:.1%})",
            *([units] if units else []),
            f"by the lowest {self.config.importance} on {self.statistics.tokens:,} tokens of {self.corpus.name} "
            f"({self.corpus.source}); a removed neuron reads {reads}",
        ]
        return "\n".join([*lines, "", table_text(self.table())])

    def table(self) -> Table:
        """Lay out what goes, layer by layer, or which units and layouts were compared.

        Returns:
            A row for each FFN, unit or layout.
        """
        if self.config.unit != "neurons":
            return self.choice.table(self.config)
        rise = ("loss rises alone",) if self.choice.rises else ()
        headings = ("layer", "neurons", "go", "stay", "share", f"{self.config.importance} that goes", *rise)
        return rows_table(headings, (self._row(group) for group in self.groups if group.kind == "ffn"), names=0)

    def _row(self, group: NeuronGroup) -> tuple[str, ...]:
        """One layer of the table."""
        kept, worth = self.mask[group.name], self.importance[group.name].abs()
        gone = int((~kept).sum())
        lost = float(worth[~kept].sum() / worth.sum().clamp_min(TINY))
        stay = group.size - gone
        rise = (f"{self.choice.rises[group.name]:.4f}",) if self.choice.rises else ()
        return f"{group.layer}", f"{group.size:,}", f"{gone:,}", f"{stay:,}", f"{gone / group.size:.1%}", f"{lost:.1%}", *rise


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
    """Look at the neurons of a model, and choose what goes.

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
    members = members_of(groups, config)
    name, revision = name_and_revision(model)
    everything = NeuronMask.keep_all(groups, name, config.ablation, revision)
    check_budget(model, groups, everything, config)
    how = {"batch_size": config.batch_size, "progress": progress}
    statistics = collect(model, blocks, groups=members, roots="roots" in IMPORTANCE[config.importance].needs, **how)
    weights = weight_norms(model, members)
    importance = _importance(model, members, blocks, statistics, weights, config, progress)
    choice = choose(ScoredModel(model, groups, everything, importance, blocks, config, progress))
    leaves = choice.parameters if choice.leaves_tensors(config) else None
    return PrunePlan(
        mask=choice.mask,
        groups=groups,
        importance=importance,
        weights=weights,
        constants=ablation_constants(config.ablation, model, statistics, blocks, members, **how),
        parameters=model.num_parameters(),
        parameters_removed=removed_parameters(model, choice.mask, groups) if leaves is None else leaves,
        corpus=blocks.corpus,
        statistics=statistics,
        config=config,
        choice=choice,
    )


def judging_work(config: PruneConfig) -> Work:
    """Count what it takes to judge a plan on held-out text, and to refit what is kept.

    Args:
        config: The settings.

    Returns:
        Tokens of each kind of work that this process does.
    """
    refits = config.compensate in REFITS
    trained = config.compensate == "block"
    # The original, the result, the smallest weights, and random masks; after a refit the result without it too.
    judged = (3 + config.controls + refits) * config.evaluation_tokens
    # Through the layers once more for what goes into blocks, and once for what they write. An FFN is about half of a layer.
    read = (refits + 2 * trained) * config.tokens
    steps = trained * config.block_steps * min(config.batch_size, BATCH) * config.block_size // 2
    return {"statistics": read // place()[1], "forward": judged // place()[1], "training": steps}


def _reading_work(config: PruneConfig, tokens: int) -> Work:
    """What it takes to look at all neurons once."""
    gradients = "gradients" in IMPORTANCE[config.importance].needs
    judged = {"influence": config.search_tokens, "loss": config.search_tokens, "routing": tokens}.get(config.judged_by, 0)
    passes = 1 + ("second moments" in IMPORTANCE[config.importance].needs)
    differentiated = min(tokens, config.gradient_tokens) if gradients else 0
    return {"statistics": passes * tokens, "gradients": differentiated, "forward": min(tokens, judged)}


def _importance(
    model: PreTrainedModel,
    members: tuple[NeuronGroup, ...],
    blocks: TokenBlocks,
    statistics: ActivationStatistics,
    weights: dict[str, WeightNorms],
    config: PruneConfig,
    progress: bool,
) -> dict[str, Neurons]:
    """What every neuron is worth, with gradients where they are needed."""
    importance = IMPORTANCE[config.importance]
    saliency = {}
    if "gradients" in importance.needs:
        few = blocks.first(max(1, config.gradient_tokens // config.block_size))
        size = of_backward_pass(config.batch_size, few.width)
        saliency = collect_saliency(model, few, groups=members, batch_size=size, progress=progress)
    if "second moments" in importance.needs:
        return _by_second_moments(model, members, blocks, config, progress)
    return {
        name: importance(Observations(moments, saliency.get(name), weights[name], name, config.seed))
        for name, moments in statistics.items()
    }


def _by_second_moments(
    model: PreTrainedModel, members: tuple[NeuronGroup, ...], blocks: TokenBlocks, config: PruneConfig, progress: bool
) -> dict[str, Neurons]:
    """What every neuron is worth by its second moments, as many groups at a time as memory has room for."""
    found: dict[str, Neurons] = {}
    for some in passes_of(model, members, copies=1):
        grams = collect_grams(model, blocks, some, batch_size=config.batch_size, progress=progress)
        for group in some:
            seen = Observations(gram=grams.pop(group.name), reads=read_matrix(model, group.name).weight)
            found[group.name] = IMPORTANCE[config.importance](seen)
    return found
