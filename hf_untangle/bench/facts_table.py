"""The table of the benchmark of facts, for a terminal and as Markdown, and what to read from it."""

from rich import box
from rich.table import Table

from hf_untangle.bench.facts_record import FactsBenchRecord, FactsResult
from hf_untangle.reporting.formatting import benchmark_markdown, duration

COLUMNS = (
    "model",
    "forget quality",
    "utility",
    "utility / original",
    "P(answer)",
    "P(paraphrase)",
    "P(cloze)",
    "extraction",
    "ROUGE-L",
    "truth ratio",
    "min-k AUC",
    "PrivLeak",
    "relearned",
    "of the others",
    "time",
)
"""What each column says; from P(answer) to min-k AUC of what is to be forgotten."""
SURE = 0.05
"""p-value above which a model is not told from gold."""
KEPT = 0.95
"""Share of the original's utility that is to stay."""


def facts_table(record: FactsBenchRecord) -> Table:
    """Lay the results out for a terminal.

    Args:
        record: What was measured.

    Returns:
        A row per model.
    """
    table = Table(*COLUMNS, box=box.SIMPLE)
    for result in record.results:
        table.add_row(*cells(result))
    return table


def facts_markdown(record: FactsBenchRecord) -> str:
    """Write the table and what it was measured with.

    Args:
        record: What was measured.

    Returns:
        Markdown.
    """
    title = f"Unlearning invented facts: {record.model}"
    return benchmark_markdown(title, COLUMNS, map(cells, record.results), facts_notes(record))


def facts_notes(record: FactsBenchRecord) -> list[str]:
    """Say what the table shows, and what it was measured with.

    Args:
        record: What was measured.

    Returns:
        Sentences.
    """
    config = record.settings
    made = [one for one in record.results if one.row.name in config["methods"]]
    passed = [one.row.name for one in made if passes(one)]
    verdict = "No method passes" if not passed else f"{', '.join(passed)} pass" + ("es" if len(passed) == 1 else "")
    return [
        f"{verdict}: forget quality above {SURE:g} (not told from gold) at {KEPT:.0%} or more of the original's utility.",
        f"Facts of seed {config['seed']}: {config['forget']} entities to forget, {config['retain']} to retain, "
        f"{config['neighbors']} neighbors, {config['unseen']} unseen, five questions each; budgets: "
        f"{config['retain_budget']:.0%} of retain top-1, {config['disruption_budget']:g} nats of disruption.",
        f"Relearned: P(cloze) after {config['relearning_steps']} steps on half of the forgotten entities, and of the "
        "others, which were not trained on.",
        f"{record.device}, {record.date}, {duration(record.seconds)}, of which finished rows in the cache took none.",
        *(f"{one.row.name}: {one.row.note}" for one in record.results if one.row.note),
    ]


def passes(result: FactsResult) -> bool:
    """Tell whether a model forgot like gold and kept its utility.

    Args:
        result: A row with its comparisons.

    Returns:
        Whether both are so.
    """
    return (result.forget_quality or 0.0) > SURE and (result.utility_kept or 0.0) >= KEPT


def cells(result: FactsResult) -> tuple[str, ...]:
    """Write one row.

    Args:
        result: A row with its comparisons.

    Returns:
        A text per column; a dash where there is nothing.
    """
    row, scores = result.row, result.row.scores
    if scores is None:
        return (row.name, *["-"] * (len(COLUMNS) - 2), duration(row.seconds))
    shares = (
        scores.probability,
        scores.paraphrase_probability,
        scores.cloze_probability,
        scores.extraction_strength,
        scores.rouge,
        scores.truth_ratio,
        scores.min_k_auc,
    )
    again = row.relearned
    return (
        row.name,
        _maybe(result.forget_quality, ".2g"),
        f"{scores.utility:.3f}",
        _maybe(result.utility_kept, ".1%"),
        *(f"{share:.3f}" for share in shares),
        _maybe(result.privacy_leakage, "+.1f"),
        _maybe(None if again is None else again.trained, ".3f"),
        _maybe(None if again is None else again.others, ".3f"),
        duration(row.seconds),
    )


def _maybe(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "-" if value is None else format(value, form)
