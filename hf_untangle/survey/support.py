"""What works on a type of model: found on a tiny model of it, and put to the test."""

from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import Kind, NeuronGroup
from hf_untangle.architecture.trace import find_blocks
from hf_untangle.arguments import checked_calls
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.errors import ArchitectureError
from hf_untangle.survey.compaction_support import LAYOUTS, Smaller, made_smaller
from hf_untangle.survey.invariants import broken_laws
from hf_untangle.survey.tiny_models import Task, random_inputs, tiny_model


@checked_calls
@dataclass(frozen=True)
class Support:
    """What works on one type of model."""

    type: str
    """The model type, as transformers names it."""
    task: Task
    """What the tiny model was for."""
    layers: int = 0
    """Layers of the tiny model, in all its stacks; it has one of every kind."""
    ffn: int = 0
    """Layers whose FFN neurons were found, those of experts included."""
    attention: int = 0
    """Layers whose attention neurons were found."""
    experts: int = 0
    """Layers whose experts were found."""
    silenced_only: int = 0
    """Groups whose neurons can be silenced, and the columns that read them zeroed, but that no row computes alone."""
    ragged: bool = False
    """Whether compaction with layers of different widths gives a model that is the same once saved and loaded; `why` names
    what stays as zeros in it."""
    uniform: bool = False
    """The same for one width in all layers."""
    why: str = ""
    """Why something does not work; empty when all of it does."""
    builds: bool = True
    """Whether a tiny model could be built and run at all."""

    @property
    def located(self) -> bool:
        """Whether neurons were found and every law held for them."""
        return self.builds and bool(self.ffn or self.attention) and not self.why.startswith(BROKEN)


BROKEN = "broken: "
"""How the reason starts when a law does not hold."""


def support_of(model_type: str, task: Task = "causal-lm") -> Support:
    """Find out what works on a type of model.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        task: What its model is to be for.

    Returns:
        What works, and why the rest does not.
    """
    inputs = random_inputs(task)
    try:
        model = tiny_model(model_type, task)
        model(**inputs)
    except Exception as error:  # Whatever a type of model raises here, it is no tiny model for us.
        return Support(model_type, task, why=f"no tiny model: {_first_line(error)}", builds=False)
    layers = len(find_blocks(model))
    try:
        groups = neuron_groups(model)
    except ArchitectureError as error:
        return Support(model_type, task, layers, why=_first_line(error).partition(" Name the output")[0])
    smaller: dict[Layout, Smaller] = {layout: made_smaller(model, groups, inputs, layout) for layout in LAYOUTS}
    broken = broken_laws(model, groups, inputs)
    return Support(
        model_type,
        task,
        layers,
        ffn=_layers_with(groups, "ffn"),
        attention=_layers_with(groups, "attention"),
        experts=_layers_with((group for group in groups if group.experts), "ffn"),
        silenced_only=sum(not group.producers for group in groups),
        ragged=not smaller["ragged"].why_not,
        uniform=not smaller["uniform"].why_not,
        why=BROKEN + "; ".join(broken) if broken else "; ".join(_what_lacks(model, groups) + _refusals(smaller)),
    )


def _layers_with(groups: Iterable[NeuronGroup], kind: Kind) -> int:
    """Count the layers that have a group of a kind."""
    return len({(group.stack, group.layer) for group in groups if group.kind == kind})


def _refusals(smaller: dict[Layout, Smaller]) -> list[str]:
    """Why compaction does not work, or what it leaves as zeros, once where both layouts have the same reason."""
    reasons: dict[str, list[Layout]] = {}
    for layout, one in smaller.items():
        left = [f"`{pattern}` stays as zeros, as {why}" for pattern, why in one.left.items() if not one.why_not]
        for reason in [one.why_not] * bool(one.why_not) + left:
            reasons.setdefault(reason, []).append(layout)
    return [f"{' and '.join(layouts)} compaction: {reason}" for reason, layouts in reasons.items()]


def _what_lacks(model: PreTrainedModel, groups: tuple[NeuronGroup, ...]) -> list[str]:
    """Say which layers have no attention or no FFN that was found, and name a module of them."""
    reasons = []
    for kind in ("attention", "ffn"):
        found = {(group.stack, group.layer) for group in groups if group.kind == kind}
        blocks = find_blocks(model)
        lacking = [block for block in blocks if (block.stack, block.layer) not in found]
        if lacking:
            parts = ", ".join(name for name, _ in model.get_submodule(lacking[0].name).named_children())
            reasons.append(
                f"no {kind} neurons in {len(lacking)} of {len(blocks)} layers, such as `{lacking[0].name}` ({parts})"
            )
    return reasons


def _first_line(error: Exception) -> str:
    """The first line of a message."""
    return str(error).strip().partition("\n")[0]
