"""What a report says about methods beside pruning: how they were run, and what their search found."""

from typing import Any

from hf_untangle.records.methods import MethodRecord
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting


def method_sentences(record: UnlearnRecord) -> tuple[str, ...]:
    """Say how each method was run.

    Args:
        record: The run.

    Returns:
        One or two sentences per method; nothing where neurons were pruned alone.
    """
    return tuple(_sentence(one, record) for one in record.training)


def method_arguments(record: UnlearnRecord) -> dict[str, str]:
    """Arguments of `unlearn` that repeat the methods of a run.

    Args:
        record: The run.

    Returns:
        Python by name; nothing where neurons were pruned alone.
    """
    if not record.training:
        return {}
    changed = {name: value for one in record.training for name, value in one.changed.items()}
    rate = record.training[-1].learning_rate
    found: dict[str, Any] = {} if rate is None or len(record.training) > 1 else {"learning_rate": rate}
    names = list(record.methods) if len(record.methods) > 1 else "".join(record.methods)
    return {"method": repr(names)} | {name: repr(value) for name, value in (changed | found).items()}


def _sentence(one: MethodRecord, record: UnlearnRecord) -> str:
    """How one method was run, and what it found."""
    chosen = one.steps[one.chosen - 1]
    rate = "" if one.learning_rate is None else f", learning rate {one.learning_rate:.2g}{_searched(one)}"
    cut = "" if chosen.share == 1 else f", cut to {formatting.percent(chosen.share)} of the way to it"
    disruption = chosen.scores.disruption
    kept = "" if disruption is None else f" at {disruption:.3g} nats per token of disruption on validation parts"
    kind = "step" if chosen.strength is None else "strength"
    return (
        f"{one.method} wrote to {formatting.amount(one.written)} weights ({one.settings['writes']}){rate}: {kind} "
        f"{chosen.number}{cut} is the result{kept}; {one.ended}."
    )


def _searched(one: MethodRecord) -> str:
    """How many learning rates were tried, where some were."""
    return f" (of {len(one.trials)} that were tried)" if one.trials else ""
