"""Public benchmarks: TOFU, MUSE and WMDP in the columns of their published tables."""

from typing import Any, Literal

from pydantic import Field

from hf_untangle.bench.published import bench_published
from hf_untangle.bench.published_config import PublishedBenchConfig
from hf_untangle.bench.published_table import published_markdown, published_notes, published_table
from hf_untangle.recipes.bench_outcome import checked_preset, saved_benchmark
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome

Benchmark = Literal["tofu-forget01", "tofu-forget05", "tofu-forget10", "muse-news", "muse-books", "wmdp-bio", "wmdp-cyber"]


class Recipe(ModelOption):
    """A public benchmark of unlearning."""

    task: Literal["published"] = Field(description="What kind of job this is.")
    benchmark: Benchmark = Field(description="Which one.")
    original: str | None = Field(default=None, description="The model that unlearns; the benchmark's own when left out.")
    gold: str | None = Field(
        default=None, description="A model that never saw what is to be forgotten; the benchmark's own when left out."
    )
    quick: bool = Field(default=False, description="Ask few questions, for a first look.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Fields of `PublishedBenchConfig` that differ.")
    output: str = Field(default="out/bench-published", description="The folder that the result is written to.")


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the record and the table are in the recipe's output folder.
    """
    preset = checked_preset(PublishedBenchConfig, recipe.settings, recipe.output, quick=recipe.quick)
    models = {"original": recipe.original, "gold": recipe.gold, "dtype": recipe.dtype, "loading": recipe.placing}
    record = bench_published(recipe.benchmark, **models, config=preset, progress=progress, **recipe.settings)
    files = {"published.md": published_markdown(record)}
    return saved_benchmark(recipe.output, record, files, published_table(record), published_notes(record))
