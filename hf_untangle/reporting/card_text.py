"""What the page and the card both say about a run, besides its numbers."""

import math
from dataclasses import dataclass
from pathlib import Path

from hf_untangle.architecture.neurons import KINDS
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.hub.cards import shown_name
from hf_untangle.records.compression import PruneRecord
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.repairs import repair_limits
from hf_untangle.reporting.style import KIND_NAME
from hf_untangle.reporting.table import Use, corpus_name, drop_of
from hf_untangle.reporting.task_terms import wording

AnyRecord = UnlearnRecord | PruneRecord
"""A finished run of any kind."""


@dataclass(frozen=True)
class Setting:
    """One setting of a run."""

    name: str
    value: str
    changed: bool
    """Whether it differs from the default."""
    description: str


def origin(record: AnyRecord) -> str:
    """Say which weights a run began with.

    Args:
        record: The run.

    Returns:
        The model's name, where its weights come from, and their fingerprint.
    """
    place = f", {record.revision}" if record.revision else ""
    name = shown_name(record.model, record.revision)
    return f"{name}{place}" + (f", weights {record.original_weights}" if record.original_weights else "")


def settings(config: UnlearnConfig | PruneConfig) -> tuple[Setting, ...]:
    """List every setting, in the order in which they are declared.

    Args:
        config: The settings of a run.

    Returns:
        The settings, and which of them differ from the defaults.
    """
    default = type(config)().model_dump()
    return tuple(
        Setting(name, str(value), value != default[name], type(config).model_fields[name].description or "")
        for name, value in config.model_dump().items()
    )


def title(record: UnlearnRecord) -> str:
    """Name the result: the model without the corpus that it forgot.

    Args:
        record: The run.

    Returns:
        For instance `SmolLM2-135M-Instruct without code`.
    """
    return f"{short_name(record)} without {corpus_name(record, 'forget')}"


def short_name(record: AnyRecord) -> str:
    """The last part of the model's name or path.

    Args:
        record: The run.

    Returns:
        A name that can be shown to anybody, without the folders that it lay in.
    """
    return Path(record.model).name or record.model


def removed(record: AnyRecord) -> tuple[str, ...]:
    """Count the removed neurons.

    Args:
        record: The run.

    Returns:
        A phrase for every kind that the model has: `3,134 of 46,080 FFN neurons (6.8%)`.
    """
    phrases = []
    for kind in KINDS:
        gone = sum(group.removed for group in record.groups if group.kind == kind)
        neurons = sum(group.neurons for group in record.groups if group.kind == kind)
        if neurons:
            share = formatting.percent(gone / neurons)
            phrases.append(f"{formatting.amount(gone)} of {formatting.amount(neurons)} {KIND_NAME[kind]} neurons ({share})")
    return tuple(phrases)


def selectivity(record: UnlearnRecord) -> str:
    """Write the largest forget drop less retain drop of any step, by which arXiv:2403.01267 sums a run up.

    Args:
        record: The run.

    Returns:
        Percentage points, measured on the validation parts.
    """
    base = record.history.base
    drops = [(drop_of("forget", step.scores, base), drop_of("retain", step.scores, base)) for step in record.history.steps]
    return formatting.points(max(forget - retain for forget, retain in drops))


def limits(record: UnlearnRecord) -> tuple[str, ...]:
    """Say what the numbers do not show.

    Args:
        record: The run.

    Returns:
        Sentences, the gravest first.
    """
    forget, retain = corpus_name(record, "forget"), corpus_name(record, "retain")
    words, tokens = wording(record), {use: formatting.amount(_tested(record, use)) for use in ("forget", "retain")}
    return (
        _no_proof(record),
        _about_relearning(record),
        f"Forgetting is measured as {words.predicts} accuracy on {forget}. This says little about answers to questions, longer "
        "texts or inputs that are chosen to bring the capability out.",
        f"The held-out test parts are small: {tokens['forget']} {words.unit} of {forget} and {tokens['retain']} of {retain}. "
        f"Were {words.unit} independent, the standard error of top-1 would be {_error(record, 'forget')} and "
        f"{_error(record, 'retain')}; as they are not, it is larger.",
        _floor(record),
        *_about_refit(record),
        *repair_limits(record),
        _about_controls(record),
        f"Only {forget} and {retain} were measured. Other languages, tasks and the safety behavior of the model may have "
        "changed.",
    )


def _about_refit(record: UnlearnRecord) -> tuple[str, ...]:
    """Say what was refitted, and what it brought, to the forget corpus too."""
    without, after = record.test.without_refit, record.test.after
    if record.refit is None or without is None:
        return ()
    uses: tuple[Use, ...] = ("retain", "forget")
    changes = (
        f"{corpus_name(record, use)} from {formatting.percent(getattr(without, use).top1)} to "
        f"{formatting.percent(getattr(after, use).top1)}"
        for use in uses
    )
    count = sum(ridge is not None for ridge in record.refit.ridges.values())
    return (
        f"{count} of {len(record.refit.ridges)} output projections were refitted in closed form on "
        f"{formatting.amount(record.refit.tokens)} tokens of retain alone{record.refit.trained}. That brought top-1 on "
        f"{' and on '.join(changes)}. "
        "Steps and controls have no refit.",
    )


def _no_proof(record: UnlearnRecord) -> str:
    """Why a drop of accuracy is no erasure."""
    if record.training:
        return (
            "Training is not proof of erasure. Small changes of many weights may hide a capability that others still hold, and "
            "quantization or further training may bring it back."
        )
    return (
        "Pruning is not proof of erasure. What was removed is what a score found; the rest of the capability may be held by "
        "neurons that stayed."
    )


def _about_relearning(record: UnlearnRecord) -> str:
    """What is known of ways back."""
    if record.attacks:
        return (
            "Relearning is possible, and what the attacks above brought back is a lower bound: longer training, other prompts "
            "or other methods may bring back more."
        )
    return (
        "Relearning is possible: further training, or examples in the prompt, may bring the capability back. "
        "No such attack was run here."
    )


def _floor(record: AnyRecord) -> str:
    """What a model that knows nothing of the forget corpus would still get right."""
    if wording(record).unit == "images":
        return "A classifier that knows nothing of a class still names it by chance; accuracy below chance says no more."
    return (
        "Forget accuracy has a floor above zero: names, punctuation and white space that a text repeats can be copied from "
        "the context by a model that never saw such text in training."
    )


def _about_controls(record: UnlearnRecord) -> str:
    """What the random control says, or that there is none."""
    if not record.test.controls:
        return "No random mask of the same size was measured, so nothing here tells selection from mere damage."
    if record.training:
        return (
            "The random control changes every parameter by the same amounts in a random order. It tells selection from mere "
            "damage, and nothing about other methods of unlearning."
        )
    if record.test.magnitude:
        return (
            "The controls remove as many neurons of every group, chosen without the forget corpus. They tell selection from "
            "mere damage, and nothing about other methods of unlearning."
        )
    return (
        "The random control removes as many neurons of every group, chosen blindly. It tells selection from mere damage, and "
        "nothing about other methods of unlearning."
    )


def _tested(record: UnlearnRecord, use: Use) -> int:
    """How many tokens of a corpus were predicted in the test."""
    return getattr(record.final, use).tokens


def _error(record: UnlearnRecord, use: Use) -> str:
    """Standard error of the top-1 accuracy of the result, sqrt(p (1 - p) / n)."""
    share = getattr(record.final, use).top1
    return formatting.points(math.sqrt(share * (1 - share) / _tested(record, use)))
