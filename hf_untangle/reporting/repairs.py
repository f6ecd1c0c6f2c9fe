"""What the page, the card and the program that repeats a run say about its repairs."""

from hf_untangle.records.unlearning import RepairRecord, RobustifyRecord, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.table import Use, corpus_name, drop_of

_REPAIRED = (
    "The repaired model was trained on other text of {retain}, the original model was not: a part of what it gained there is "
    "fitting that corpus, and text of other kinds may have gained less or lost."
)
_ROBUST = (
    "Shrinking and distilling makes relearning slower, not impossible, and keeps what the text shows that was distilled on: "
    "run the attacks on the robust model, and measure what else it must be able to do."
)
IN_WORDS = {"lora": "a low-rank adapter, merged into the weights in the end", "full": "all weights"}
"""What each method trains, in words."""


def repair_sentences(record: UnlearnRecord) -> tuple[str, ...]:
    """Say what each repair did, cost and changed.

    Args:
        record: The run.

    Returns:
        A few sentences for each repair; none where there was none.
    """
    return tuple(_sentences(record, repair) for repair in record.repairs)


def repair_limits(record: UnlearnRecord) -> tuple[str, ...]:
    """Say what the numbers of a repaired model do not show.

    Args:
        record: The run.

    Returns:
        Sentences; none where there was no repair.
    """
    repaired = [one for one in record.repairs if not isinstance(one, RobustifyRecord)]
    robust = len(repaired) < len(record.repairs)
    return (*((_REPAIRED.format(retain=corpus_name(record, "retain")),) if repaired else ()), *((_ROBUST,) if robust else ()))


def repair_heading(record: UnlearnRecord) -> str:
    """Say what the sentences on repairs are about.

    Args:
        record: The run.

    Returns:
        A heading.
    """
    robust = [isinstance(one, RobustifyRecord) for one in record.repairs]
    said = (["repaired"] if not all(robust) else []) + (["made robust"] if any(robust) else [])
    return f"How it was {' and '.join(said)}"


def repair_arguments(record: UnlearnRecord) -> tuple[tuple[str, dict[str, str]], ...]:
    """Write the calls that repeat the repairs.

    Args:
        record: The run.

    Returns:
        For each repair the method of the result, and Python for every keyword.
    """
    return tuple(
        (
            "robustify" if isinstance(repair, RobustifyRecord) else "repair",
            {name: repr(value) for name, value in _keywords(repair).items()},
        )
        for repair in record.repairs
    )


def _keywords(repair: RepairRecord) -> dict[str, object]:
    """What `UnlearnResult.repair` is called with; the corpus is the run's own."""
    original = {} if repair.original is None else {"original": repair.original}
    return {**original, **repair.settings}


def _sentences(record: UnlearnRecord, repair: RepairRecord) -> str:
    """What one repair did."""
    drops = f"The drop on {_change(record, repair, 'retain')}, and that on {_change(record, repair, 'forget')}."
    return f"{_robust(repair) if isinstance(repair, RobustifyRecord) else _repaired(repair)} {drops}"


def _repaired(repair: RepairRecord) -> str:
    """How a model was trained to get the retain corpus back."""
    settings, corpus = repair.settings, repair.corpus
    method = IN_WORDS.get(str(settings["method"]), str(settings["method"]))
    teacher = f", and {formatting.percent(float(settings['distill']))} of the target was what the original predicts"
    return (
        f"The model was then trained on {corpus['corpus']} alone ({corpus['source']}, {corpus['part']} part), with removed "
        f"neurons held at zero: {method}, {formatting.amount(repair.parameters)} parameters, {settings['steps']} steps, "
        f"{formatting.amount(repair.tokens)} tokens, in {formatting.duration(repair.seconds)}"
        f"{teacher if repair.original else ''}."
    )


def _robust(repair: RobustifyRecord) -> str:
    """How a model was distilled into its own weights."""
    settings, corpus, last = repair.settings, repair.corpus, repair.divergences[-1]
    first = repair.divergences[0]
    met = "" if repair.is_within_tolerance else f", above the tolerance of {settings['tolerance']:g}"
    strength, seconds = formatting.percent(float(settings["strength"])), formatting.duration(repair.seconds)
    tokens, cost = formatting.amount(repair.tokens), formatting.amount(repair.forward_tokens)
    distance = f"from {first.nats:.3f} to {last.nats:.3f} nats per token{met}"
    return (
        f"The weights were then shrunk by {strength} and perturbed, and what the unlearned model predicts on "
        f"{corpus['corpus']} ({corpus['part']} part) was distilled into them, with removed neurons held at zero: "
        f"{tokens} tokens, which cost as much as {cost} forward, in {seconds}. "
        f"KL(unlearned || robust) on held-out text fell {distance}."
    )


def _change(record: UnlearnRecord, repair: RepairRecord, use: Use) -> str:
    """The drop on one corpus before and after a repair."""
    before, after = (formatting.drop(drop_of(use, scores, record.test.before)) for scores in (repair.before, repair.after))
    return f"{corpus_name(record, use)} went from {before} to {after}"
