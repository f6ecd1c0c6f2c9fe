"""Evaluate: load a model, and measure it on corpora, on prompts with answers, and by tasks of lm-eval."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic_core import to_json
from rich.console import Console

from hf_untangle import models
from hf_untangle.data.questions import questions
from hf_untangle.distributed import in_main
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.evaluate import Evaluation, check_metrics, evaluate
from hf_untangle.evaluation.score_cache import EvaluationConfig
from hf_untangle.folders import check_file, whole_file
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.reporting.evaluation import evaluation_table

PAIRS, TASKS = "pairs", "tasks"
"""What stands over numbers that come from no corpus."""


class Recipe(ModelOption):
    """An evaluation."""

    task: Literal["evaluate"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network.")
    corpora: tuple[CorpusChoice, ...] = Field(default=(), description="Texts to measure on, each by itself.")
    pairs: str | None = Field(default=None, description="A table of prompts and answers to measure on.")
    holdout: CorpusChoice | None = Field(default=None, description="Text that the model has not seen, for `membership_auc`.")
    metrics: tuple[str, ...] | None = Field(default=None, description="What to measure; the usual metrics when left out.")
    tasks: tuple[str, ...] = Field(
        default=(), description="Tasks of lm-eval, by name or as YAML files; needs the extra `eval`."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ from the defaults.")
    output: str | None = Field(default=None, description="The JSON file that the numbers are written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Everything that can be checked without the model is checked before the model is loaded.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it: the numbers by corpus, and by `pairs` and `tasks`.

    Raises:
        ConfigError: There is nothing to measure on, or a metric or a setting is unknown.
    """
    if recipe.output:
        check_file(recipe.output)
    check_metrics(recipe.metrics or ())
    EvaluationConfig.resolve(**recipe.settings)
    if not (recipe.corpora or recipe.pairs or recipe.tasks):
        raise ConfigError("A model must be judged on something, got nothing. Name a corpus, pairs or tasks.")
    sources: dict[str, dict[str, Any]] = {choice.source: {"corpus": choice.open()} for choice in recipe.corpora}
    held_out = recipe.holdout.open() if recipe.holdout else None
    if recipe.pairs:
        sources[PAIRS] = {"pairs": questions(recipe.pairs)}
    model, tokenizer = models.load(recipe.model, **recipe.loading)
    how = {"tokenizer": tokenizer, "progress": progress} | recipe.settings
    found = {
        name: evaluate(model, holdout=held_out, metrics=recipe.metrics, **source, **how) for name, source in sources.items()
    }
    if recipe.tasks:
        found[TASKS] = evaluate(model, tasks=recipe.tasks, **how)
    record = {name: one.tasks if name == TASKS else one.values for name, one in found.items()}
    if recipe.output:
        in_main(lambda: _write(Path(recipe.output or ""), record))
    return Outcome(record, lambda console: _show(found, recipe.output, console))


def _write(file: Path, record: dict[str, Any]) -> None:
    """Write the numbers, infinity as a string, as JSON has no number for it."""
    with whole_file(file) as draft:
        draft.write_bytes(to_json(record, indent=2, inf_nan_mode="strings") + b"\n")


def _show(found: dict[str, Evaluation], output: str | None, console: Console) -> None:
    """Print the table, and where the numbers are."""
    console.print(evaluation_table(found))
    if output:
        console.print(f"The numbers are in {output}.", highlight=False)
