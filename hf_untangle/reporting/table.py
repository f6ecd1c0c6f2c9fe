"""The original, the unlearned and the randomly pruned model side by side, and in one sentence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from rich import box
from rich.table import Table
from rich.text import Text

from hf_untangle.evaluation.next_token import NextTokenMetrics, relative_drop
from hf_untangle.records.scores import Paired
from hf_untangle.records.unlearning import RobustifyRecord, Scores, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.task_terms import wording

Use = Literal["forget", "retain"]
USES: tuple[Use, ...] = ("forget", "retain")
FEW_TOKENS = 500
"""Held-out tokens below which a drop of a few points may be chance: two standard errors are four points or more."""


@dataclass(frozen=True)
class Cells:
    """What one model does on one corpus, as text."""

    top1: str
    drop: str
    """Relative drop of top-1 against the original model; empty for the original itself."""
    top10: str
    perplexity: str


@dataclass(frozen=True)
class Row:
    """One model on both corpora."""

    model: str
    forget: Cells
    retain: Cells


def comparison_rows(record: UnlearnRecord) -> tuple[Row, ...]:
    """Gather the results on the test parts.

    Args:
        record: The run.

    Returns:
        The original, the unlearned model, the same after each repair or distillation and, where there are controls, the mean of
        the random masks with its sample standard deviation, and the masks by magnitude and by the retain corpus alone.
    """
    test = record.test
    rows = [_row("original", [test.before], None), _row("unlearned", [test.after], test.before)]
    rows += [
        _row("robust" if isinstance(repair, RobustifyRecord) else "repaired", [repair.after], test.before)
        for repair in record.repairs
    ]
    if test.controls:
        rows.append(_row(control_name(record), test.controls, test.before))
    rows += [_row(name, [one], test.before) for name, one in named_controls(record).items()]
    return tuple(rows)


def control_name(record: UnlearnRecord) -> str:
    """Say what the controls are.

    Args:
        record: The run.

    Returns:
        `random mask`, or `random (mean of 3)` where there are several; `random update` where weights were trained.
    """
    seeds = len(record.test.controls)
    return f"random {_control(record)}" if seeds == 1 else f"random (mean of {seeds})"


@dataclass(frozen=True)
class CorpusRow:
    """One of several corpora by itself, before and after."""

    name: str
    before: Cells
    after: Cells


def corpus_rows(record: UnlearnRecord) -> tuple[CorpusRow, ...]:
    """Gather the results on every corpus by itself.

    Args:
        record: The run.

    Returns:
        The members of a corpus that is several, and what else was measured; nothing where there is neither.
    """
    return tuple(
        CorpusRow(f"{one.use}: {one.name}", _cells_of(one.before, None), _cells_of(one.after, one.before))
        for one in record.test.by_corpus
    )


def _cells_of(metrics: NextTokenMetrics, base: NextTokenMetrics | None) -> Cells:
    """Write the metrics of one model on one corpus."""
    fell = math.nan if base is None or not base.top1 else relative_drop(base.top1, metrics.top1)
    return Cells(
        top1=formatting.percent(metrics.top1),
        drop="" if base is None else formatting.drop(fell),
        top10=formatting.percent(metrics.top10),
        perplexity=formatting.perplexity(metrics.perplexity),
    )


def named_controls(record: UnlearnRecord) -> dict[str, Scores]:
    """Gather the masks of equal size that were not drawn at random.

    Args:
        record: The run.

    Returns:
        Their scores by name, those that were measured.
    """
    both = {"magnitude": record.test.magnitude, "retain-only": record.test.retain_only}
    return {name: one for name, one in both.items() if one is not None}


def comparison_table(record: UnlearnRecord) -> Table:
    """Lay the results on the test parts out for a terminal.

    Args:
        record: The run.

    Returns:
        A table; print it with `rich.print`.
    """
    words = wording(record)
    caption = f"{words.predicts} prediction on held-out {words.material}; the drop is relative{_in_intervals(record)}"
    table = Table(box=box.SIMPLE_HEAD, caption=caption, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "top-1", "drop", "top-10", "perplexity"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    rows = comparison_rows(record)
    for use in USES:
        # A name may hold square brackets, which a plain string would read as markup.
        table.add_row(Text(f"{use}: {corpus_name(record, use)}", style="bold"))
        for row in rows:
            table.add_row(f"  {row.model}", *vars(getattr(row, use)).values())
        table.add_section()
    for one in corpus_rows(record):
        table.add_row(Text(one.name, style="bold"))
        table.add_row("  original", *vars(one.before).values())
        table.add_row("  unlearned", *vars(one.after).values())
        table.add_section()
    return table


def summary(record: UnlearnRecord) -> str:
    """Sum the run up in one sentence: what fell, what stayed, what was removed, what a random mask does.

    Args:
        record: The run.

    Returns:
        The sentence, with the numbers of the test parts.
    """
    before, after = record.test.before, record.final
    forget, retain = formatting.fell_both(*(drop_of(use, after, before) for use in USES))
    removed = formatting.amount(record.parameters_removed), formatting.amount(record.parameters)
    words = wording(record)
    share = formatting.percent(record.parameters_removed / record.parameters)
    gone = f", with {' of '.join(removed)} parameters ({share}) removed" if record.parameters_removed else ""
    return (
        f"Top-1 {words.predicts} accuracy on held-out {words.material} {forget} on {_corpus(record, 'forget')} and {retain} on "
        f"{_corpus(record, 'retain')}{gone}{_by_chance(record, before)}."
    )


def budget_verdict(record: UnlearnRecord) -> str:
    """Say whether the result keeps the retain budget on held-out text; it was chosen on other text, where it did.

    Args:
        record: The run.

    Returns:
        A sentence that begins with `Within budget` or `Over budget`.
    """
    retain, lost, paired = _costliest(record)
    budget = formatting.percent(record.config.retain_budget)
    if math.isnan(lost):
        return f"No verdict on the budget of {budget}: the original model predicts nothing of {retain}."
    verdict = "Within budget" if lost <= record.config.retain_budget else "Over budget"
    between = "" if paired is None else f" ({formatting.between(*paired.drop.interval())} with a confidence of 95%)"
    return f"{verdict}: {retain} lost {formatting.percent(max(lost, 0.0))}{between} on held-out text, of {budget} allowed."


def _costliest(record: UnlearnRecord) -> tuple[str, float, Paired | None]:
    """The retain corpus, or of several the one that lost most, with its drop, and with its error where that was measured."""
    before, after = record.test.before, record.final
    known, paired = {name: one.top1 for name, one in before.members if one.top1}, dict(after.members_paired)
    each = [(name, relative_drop(known[name], one.top1), paired.get(name)) for name, one in after.members if name in known]
    whole = (corpus_name(record, "retain"), drop_of("retain", after, before), after.retain_paired)
    return max(each, key=lambda one: one[1], default=whole)


def selectivity_verdict(record: UnlearnRecord) -> str | None:
    """Say it where the forget corpus fell no more than by chance: such a result has forgotten nothing in particular.

    Args:
        record: The run.

    Returns:
        A sentence that says what to change; None where more was forgotten, or no random masks stand beside the result.
    """
    before, controls = record.test.before, record.test.controls
    if not controls or not drop_of("forget", record.final, before) <= mean_drop("forget", controls, before):
        return None
    fell = f"{corpus_name(record, 'forget')} fell no more than under random masks of equal size"
    return f"Not forgotten: {fell}. {_what_to_try(record)}"


def _what_to_try(record: UnlearnRecord) -> str:
    """Say what to change where nothing in particular was forgotten: what ended the run, and on how little it was judged."""
    steps, tokens = len(record.history.steps), record.test.before.forget.tokens
    if steps >= record.config.steps:
        first = f"All {steps} steps were taken: allow more of them (`steps`)"
    else:
        first = (
            f"The budgets ended the run after {steps} of {record.config.steps} steps: retain text of the kind that must stay, "
            "such as chats on other topics where chats are to be forgotten, or allow a larger retain_budget"
        )
    few = f" It was judged on {tokens:,} tokens only, where chance is large: pass more rows." if tokens < FEW_TOKENS else ""
    return f"{first}, or try another method.{few}"


def corpus_name(record: UnlearnRecord, use: Use) -> str:
    """Name the corpus that goes or the one that stays.

    Args:
        record: The run.
        use: Which of the two.

    Returns:
        Its short name.
    """
    return record.corpora[f"{use}_test"]["corpus"]


def drop_of(use: Use, scores: Scores, base: Scores) -> float:
    """Compute the relative drop of top-1 on one corpus.

    Args:
        use: Which corpus.
        scores: The scores of a pruned model.
        base: The scores of the original model.

    Returns:
        1 - after / before, on all blocks that were read of either; NaN where the original model had no hit that could be lost.
    """
    if not _metrics(use, base).top1:
        return math.nan
    return scores.forget_drop(base) if use == "forget" else scores.retain_drop(base)


def drop_between(use: Use, scores: Scores, base: Scores) -> str:
    """Write the relative drop of top-1 on one corpus, with the interval that it lies in.

    Args:
        use: Which corpus.
        scores: The scores of a pruned model.
        base: The scores of the original model.

    Returns:
        `3.1% (1.9% to 4.3%)`, at a confidence of 95%; the drop alone where its error was not measured.
    """
    drop, paired = (
        formatting.drop(drop_of(use, scores, base)),
        scores.forget_paired if use == "forget" else scores.retain_paired,
    )
    return drop if paired is None else f"{drop} ({formatting.between(*paired.drop.interval())})"


def mean_drop(use: Use, models: Sequence[Scores], base: Scores) -> float:
    """Average the relative drop of top-1 over several models.

    Args:
        use: Which corpus.
        models: The scores of at least one model.
        base: The scores of the original model.

    Returns:
        The mean of `drop_of`.
    """
    return fmean(drop_of(use, scores, base) for scores in models)


def _corpus(record: UnlearnRecord, use: Use) -> str:
    """Name a corpus, with the accuracy on it before and after."""
    before, after = (formatting.percent(_metrics(use, scores).top1) for scores in (record.test.before, record.final))
    return f"{corpus_name(record, use)} ({use}: {before} to {after})"


def _control(record: UnlearnRecord) -> str:
    """What is drawn at random for comparison."""
    return "update" if record.training else "mask"


def _in_intervals(record: UnlearnRecord) -> str:
    """The end of a caption, where drops stand with their intervals."""
    return "" if record.test.after.retain_paired is None else ", in brackets its 95% interval over blocks"


def _by_chance(record: UnlearnRecord, base: Scores) -> str:
    """What random masks or updates do, as the end of a sentence; nothing when there are none."""
    controls, what = record.test.controls, _control(record)
    if not controls:
        return ""
    forget, retain = formatting.fell_both(*(mean_drop(use, controls, base) for use in USES))
    masks = f"a random {what}" if len(controls) == 1 else f"{len(controls)} random {what}s (mean)"
    return f"; under {masks} of the same size the first {forget} and the second {retain}"


def _row(model: str, scores: Sequence[Scores], base: Scores | None) -> Row:
    """The row of one model, or of the mean of several."""
    return Row(model, _cells("forget", scores, base), _cells("retain", scores, base))


def _cells(use: Use, models: Sequence[Scores], base: Scores | None) -> Cells:
    """Write the metrics of one or several models on one corpus."""
    metrics = [_metrics(use, scores) for scores in models]
    return Cells(
        top1=formatting.mean([each.top1 for each in metrics], formatting.percent),
        drop=_drop(use, models, base),
        top10=formatting.mean([each.top10 for each in metrics], formatting.percent),
        perplexity=formatting.mean([each.perplexity for each in metrics], formatting.perplexity),
    )


def _drop(use: Use, models: Sequence[Scores], base: Scores | None) -> str:
    """Write the drop of one model with its interval, or the mean of several with their spread."""
    if base is None:
        return ""
    if len(models) == 1:
        return drop_between(use, models[0], base)
    return formatting.mean([drop_of(use, scores, base) for scores in models], formatting.drop)


def _metrics(use: Use, scores: Scores) -> NextTokenMetrics:
    """The metrics on one corpus."""
    return scores.forget if use == "forget" else scores.retain
