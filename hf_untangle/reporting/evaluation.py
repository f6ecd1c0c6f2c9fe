"""What an evaluation found, for a terminal."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

from hf_untangle.evaluation.evaluate import Evaluation
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting import formatting

WHAT = {
    "tokens": "next tokens predicted",
    "top1": "next-token top-1 accuracy",
    "top10": "next-token top-10 accuracy",
    "loss": "cross-entropy of a token, nats",
    "perplexity": "perplexity",
    "exact_memorization": "exact memorization",
    "extraction_strength": "extraction strength",
    "answer_probability": "probability of the answer",
    "paraphrase_probability": "probability of a paraphrased answer",
    "truth_ratio": "truth ratio, min(R, 1/R)",
    "true_by_ratio": "truth ratio, max(0, 1 - R)",
    "loss_auc": "membership AUC by loss",
    "min_k_auc": "membership AUC by min-k",
    "min_k_plus_plus_auc": "membership AUC by min-k++",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
    "rougeL_recall": "ROUGE-L recall",
    "repetition": "repeated 4-grams",
    "degenerate": "degenerate completions",
    "python_parses": "completions that parse as Python",
    "accuracy_by_letter": "multiple choice by letter",
    "accuracy_by_text": "multiple choice by text",
    "chance": "multiple choice by chance",
}
"""What each number is called where people read it."""
AS_THEY_ARE = ("loss", "truth_ratio", "true_by_ratio", "loss_auc", "min_k_auc", "min_k_plus_plus_auc")
"""Numbers that are no shares of anything."""


def written(name: str, value: int | float) -> str:
    """Write one number of an evaluation as what it is.

    Args:
        name: Its name, such as `top1`.
        value: The number.

    Returns:
        A count, a perplexity, a share in percent, or three decimals.
    """
    if name == "tokens":
        return formatting.amount(int(value))
    if name == "perplexity":
        return formatting.perplexity(value)
    return f"{value:.3f}" if name in AS_THEY_ARE else formatting.percent(value)


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> Table:
    """Lay evaluations out side by side.

    Args:
        evaluations: One a column, by what stands over it.

    Returns:
        A table with a line for every number, those of tasks included.
    """
    table = Table("", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in evaluations:
        table.add_column(heading, justify="right")
    columns = [_lines(one) for one in evaluations.values()]
    for line in dict.fromkeys(line for column in columns for line in column):
        table.add_row(line, *(column.get(line, "") for column in columns))
    return table


def asked_rows(record: UnlearnRecord) -> tuple[tuple[str, ...], ...]:
    """Gather the metrics that were asked for after the run.

    Args:
        record: The run.

    Returns:
        For each what it is, and its value on the forget corpus before and after, and on the retain corpus before and after;
        empty where the original was not measured.
    """
    rows = []
    for found in record.metrics:
        columns = [found.forget_before or {}, found.forget, found.retain_before or {}, found.retain]
        for name in found.forget:
            cells = (written(name, column[name]) if name in column else "" for column in columns)
            rows.append((WHAT[name], *cells))
    return tuple(rows)


def _lines(evaluation: Evaluation) -> dict[str, str]:
    """Every number of an evaluation, by what it is."""
    lines = {WHAT[name]: written(name, value) for name, value in evaluation.values.items()}
    for task, values in evaluation.tasks.items():
        lines |= {f"{task}: {name}": f"{value:,.0f}" if name == "samples" else f"{value:.3f}" for name, value in values.items()}
    return lines
