"""What the page, the card and the program that repeats a run say about its repairs."""

from hf_untangle.records.unlearning import RepairRecord, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.table import Use, corpus_name, drop_of

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
    if not record.repairs:
        return ()
    return (
        f"The repaired model was trained on other text of {corpus_name(record, 'retain')}, the original model was not: a part "
        "of what it gained there is fitting that corpus, and text of other kinds may have gained less or lost.",
    )


def repair_arguments(record: UnlearnRecord) -> tuple[dict[str, str], ...]:
    """Write the keywords of the calls that repeat the repairs.

    Args:
        record: The run.

    Returns:
        Python for every keyword, a mapping for each repair.
    """
    return tuple({name: repr(value) for name, value in _keywords(repair).items()} for repair in record.repairs)


def _keywords(repair: RepairRecord) -> dict[str, object]:
    """What `UnlearnResult.repair` is called with; the corpus is the run's own."""
    original = {} if repair.original is None else {"original": repair.original}
    return {**original, **repair.settings}


def _sentences(record: UnlearnRecord, repair: RepairRecord) -> str:
    """What one repair did."""
    settings, corpus = repair.settings, repair.corpus
    method = IN_WORDS.get(str(settings["method"]), str(settings["method"]))
    teacher = f", and {formatting.percent(float(settings['distill']))} of the target was what the original predicts"
    return (
        f"The model was then trained on {corpus['corpus']} alone ({corpus['source']}, {corpus['part']} part), with removed "
        f"neurons held at zero: {method}, {formatting.amount(repair.parameters)} parameters, {settings['steps']} steps, "
        f"{formatting.amount(repair.tokens)} tokens, in {formatting.duration(repair.seconds)}"
        f"{teacher if repair.original else ''}. The drop on {_change(record, repair, 'retain')}, "
        f"and that on {_change(record, repair, 'forget')}."
    )


def _change(record: UnlearnRecord, repair: RepairRecord, use: Use) -> str:
    """The drop on one corpus before and after a repair."""
    before, after = (formatting.drop(drop_of(use, scores, record.test.before)) for scores in (repair.before, repair.after))
    return f"{corpus_name(record, use)} went from {before} to {after}"
