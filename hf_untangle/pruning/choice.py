"""What a plan has decided: the mask, and where whole units go, which they are and what they were judged by."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from jaxtyping import Float
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.display import fields_repr, rows_table
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.pruning.costs import Prefill
from hf_untangle.pruning.layouts import Candidate, Order, best_layout, described
from hf_untangle.pruning.neuron_choice import lowest_removed, shares_of
from hf_untangle.pruning.scored_model import ScoredModel
from hf_untangle.pruning.sensitivity import loss_rises, shares_by
from hf_untangle.pruning.unit_choice import rank, taken
from hf_untangle.pruning.unit_sets import UnitSet, units_of

PREFILL_BLOCKS = 8
"""Blocks of the pass that is timed, as when a result is measured."""
SCORES = {"importance": "importance", "influence": "influence", "loss": "influence", "routing": "weighted norm"}
"""What the scores of units are called, by what they are judged by."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Choice:
    """What goes, and why."""

    mask: NeuronMask
    units: UnitSet | None = None
    """The units of which some go; None where neurons go one by one, or several kinds at once."""
    scores: Float[Tensor, " unit"] | None = None
    """What each was judged by, or shortlisted."""
    gone: tuple[int, ...] = ()
    """Which of them go, in order."""
    losses: dict[int, float] = field(default_factory=dict)
    """By unit that goes: the loss without it and those before it, in nats; empty where the loss did not decide."""
    rises: dict[str, float] = field(default_factory=dict)
    """By FFN: how much the loss rises when it alone loses the mean share, in nats; empty where that was not asked for."""
    order: Order | None = None
    """Where several kinds go at once: what goes first of each."""
    layouts: tuple[Candidate, ...] = ()
    """The ways to spend the budget that were compared, the chosen one first."""
    __repr__ = fields_repr

    def table(self, config: PruneConfig) -> Table:
        """Lay out what was compared.

        Args:
            config: The settings.

        Returns:
            A row per unit, or per layout.
        """
        if self.layouts:
            return rows_table(
                ("layers", "heads", "neurons", "parameters left", "speed", "loss", ""), described(self.layouts), names=0
            )
        headings = ("unit", "parameters", SCORES[config.judged_by], *(("loss without it",) if self.losses else ()), "")
        return rows_table(headings, self._rows(), names=1)

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """One row per unit."""
        assert self.units is not None and self.scores is not None
        turns = {unit: number + 1 for number, unit in enumerate(self.gone)}
        for unit, name in enumerate(self.units.names):
            loss = (f"{self.losses[unit]:.3f}" if unit in self.losses and unit in turns else "",) if self.losses else ()
            goes = f"goes ({turns[unit]})" if unit in turns else ""
            yield name, f"{int(self.units.parameters[unit]):,}", f"{float(self.scores[unit]):.4g}", *loss, goes

    def describe(self, config: PruneConfig) -> str:
        """Say in words what goes, where that is more than neurons.

        Args:
            config: The settings.

        Returns:
            One line; empty where neurons go one by one.
        """
        if self.layouts:
            cut = self.layouts[0].cut
            return (
                f"{cut.layers} layers go, and of every other layer {cut.heads} key-value groups and {cut.neurons:,} FFN neurons"
                f": the best of {len(self.layouts)} layouts by the loss on {config.search_tokens:,} of these tokens"
            )
        if self.units is None:
            return ""
        names = ", ".join(self.units.names[unit] for unit in self.gone)
        return f"{len(self.gone)} of {len(self.units)} {self.units.kind} go, by {config.judged_by}: {names}"

    def leaves_tensors(self, config: PruneConfig) -> bool:
        """Tell whether what goes is more than neurons, and is taken out, so that more than their own weights go.

        Blocks stay as zeros, also where the rest is compacted.

        Args:
            config: The settings.

        Returns:
            Whether sizes before and after say how many parameters went.
        """
        return config.unit not in ("neurons", "blocks") and config.compact is not None

    @property
    def parameters(self) -> int | None:
        """Parameters of the units that go, where they leave the tensors; None where neurons go one by one."""
        return None if self.units is None else int(self.units.parameters[list(self.gone)].sum())


def choose(scored: ScoredModel) -> Choice:
    """Choose what goes.

    Args:
        scored: The model and the text.

    Returns:
        The choice.

    Raises:
        ConfigError: The budget takes nothing, or cannot be kept.
    """
    model, groups, everything, config = scored.model, scored.groups, scored.everything, scored.config
    needed = _parameters_needed(model, config)
    prefill = None
    if config.speed is not None:
        some = scored.blocks.first(PREFILL_BLOCKS)
        prefill = Prefill(model, groups, everything, (len(some.counted), int(some.counted.shape[1])))
    if config.unit == "neurons":
        ffns = tuple(group for group in groups if group.kind == "ffn")
        shares = shares_of(model, groups, everything, config, needed, prefill)
        rises = loss_rises(scored, ffns, shares[0]) if config.allocation == "sensitivity" else {}
        shares = shares_by(list(rises.values()), shares[0]) if rises else shares
        return Choice(lowest_removed(everything, scored.importance, ffns, shares, config), rises=rises)
    if config.unit == "any":
        order, layouts = best_layout(scored, needed, prefill)
        return Choice(order.mask(layouts[0].cut), order=order, layouts=tuple(layouts))
    units = units_of(model, groups, config.unit, config.allocation)
    ranking = rank(scored, units)
    gone = taken(ranking, config, needed, prefill)
    return Choice(units.without(everything, gone), units, ranking.scores, tuple(gone), ranking.losses)


def check_budget(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], everything: NeuronMask, config: PruneConfig) -> None:
    """Refuse a budget that cannot be kept, before any text is read.

    Args:
        model: The model.
        groups: Its neuron groups.
        everything: A mask that keeps all neurons.
        config: The settings.

    Raises:
        ConfigError: The model has no such units, is as small already, or has fewer parameters than are to go.
    """
    needed = _parameters_needed(model, config)
    if config.unit == "neurons" and config.speed is None:
        shares_of(model, groups, everything, config, needed)
    elif config.unit not in ("neurons", "any"):
        units_of(model, groups, config.unit, config.allocation)


def members_of(groups: tuple[NeuronGroup, ...], config: PruneConfig) -> tuple[NeuronGroup, ...]:
    """List the groups that have to be looked at.

    Args:
        groups: The neuron groups of a model.
        config: The settings.

    Returns:
        FFNs for neurons and experts, attention for heads, and both for all else.
    """
    kinds = {"neurons": ("ffn",), "experts": ("ffn",), "heads": ("attention",)}.get(config.unit, ("ffn", "attention"))
    return tuple(group for group in groups if group.kind in kinds)


def _parameters_needed(model: PreTrainedModel, config: PruneConfig) -> int:
    """How many parameters have to go for the memory that is asked for; 0 where none is."""
    if config.most_bytes is None:
        return 0
    now, parameters = model.get_memory_footprint(), model.num_parameters()
    if config.most_bytes >= now:
        raise ConfigError(
            f"memory must be below the {now / 1e6:,.1f} MB that the weights take now, got {config.memory}. Ask for less, or "
            "load the model in another dtype."
        )
    return int(-(-(now - config.most_bytes) * parameters // now))
