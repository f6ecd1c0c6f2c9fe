"""Benchmark of methods: every way to unlearn on one task, at equal disruption."""

from typing import Any, Literal

from pydantic import Field

from hf_untangle.bench.methods import bench_methods
from hf_untangle.bench.methods_config import MethodsBenchConfig
from hf_untangle.bench.methods_page import methods_page
from hf_untangle.bench.methods_table import methods_markdown, methods_notes, methods_table
from hf_untangle.models import Dtype
from hf_untangle.recipes.bench_outcome import checked_preset, saved_benchmark
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome


class Recipe(ModelOption):
    """A benchmark of unlearning methods on two corpora."""

    task: Literal["methods"] = Field(description="What kind of job this is.")
    model: str = Field(default="smollm2", description="A Hub id, a folder, or a model in a package, which needs no network.")
    dtype: Dtype = Field(default="auto", description="The dtype of the weights.")
    forget: CorpusChoice = Field(
        default=CorpusChoice(source="code", prefer="embedded"), description="The corpus whose capability goes."
    )
    retain: CorpusChoice = Field(
        default=CorpusChoice(source="general", prefer="embedded"),
        description="The corpus whose capability stays, on which all budgets are judged.",
    )
    also: dict[str, CorpusChoice] = Field(
        default_factory=dict, description="Corpora that no method is told of, by name, measured before and after."
    )
    quick: bool = Field(default=False, description="Start from settings meant for half an hour of SmolLM2 on two cores.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of `MethodsBenchConfig` that differ.")
    output: str = Field(default="out/bench-methods", description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the record, the table and the page are in the recipe's output folder.
    """
    preset = checked_preset(MethodsBenchConfig, recipe.settings, recipe.output, quick=recipe.quick)
    also = {name: choice.open() for name, choice in recipe.also.items()}
    corpora = recipe.forget.open(), recipe.retain.open()
    how = {"also": also, "dtype": recipe.dtype, "loading": recipe.placing, "config": preset, "progress": progress}
    record = bench_methods(recipe.model, *corpora, **how, **recipe.settings)
    files = {"methods.md": methods_markdown(record), "report.html": methods_page(record)}
    return saved_benchmark(recipe.output, record, files, methods_table(record), methods_notes(record))
