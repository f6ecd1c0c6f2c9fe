"""Translate: rewrite a network as another one that computes the same function, measure that it does, and save it."""

import json
import time
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from rich.console import Console
from rich.table import Table

from hf_untangle.errors import ConfigError
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.translation.export import (
    TranslationOutput,
    read_original,
    write_checkpoint,
    write_kan,
    write_relu,
    write_three_layers,
)

Target = Literal["kan", "relu", "three-layer"]

FORMS: dict[Target, tuple[str, ...]] = {
    "kan": ("fused", "shifted", "alternating"),
    "relu": (),
    "three-layer": ("halfopen", "closed", "gate"),
}
"""The forms of each kind of network, its default first."""


TEXTS = 32
"""How many documents the page about a block is made from."""


class Recipe(ModelOption):
    """A translation job."""

    task: Literal["translate"] = Field(description="What kind of job this is.")
    to: Target = Field(description="What the network becomes.")
    network: str = Field(
        default="digits",
        description="A Hub id or a folder, whose feed-forward blocks are swapped; a file with a multilayer perceptron or "
        "a KAN; or `digits`, a small classifier that is trained first.",
    )
    form: str | None = Field(default=None, description="Which form; for a KAN `fused`, for three layers `halfopen` by default.")
    box: tuple[float, float] = Field(default=(-3.0, 3.0), description="Smallest and largest value of every input.")
    max_regions: int = Field(default=100_000, gt=0, description="The most linear regions to translate.")
    max_seconds: float = Field(default=3600.0, gt=0, description="The longest time to look for them.")
    processes: int = Field(default=1, gt=0, description="How many processes look for them.")
    data: CorpusChoice | None = Field(
        default=None, description="Text for a page about one block of a checkpoint, and its edges."
    )
    block: int = Field(default=-1, description="Which block the page is about, in the order of the model.")
    output: str = Field(description="The folder that the result is written to.")

    @field_validator("form")
    @classmethod
    def _form_of_target(cls, form: str | None, others: Any) -> str | None:
        """Hold the form to those that the target has; pydantic passes the fields above in `others`."""
        forms = FORMS[others.data["to"]] if "to" in others.data else ()
        if form is not None and form not in forms:
            raise ValueError(f"must be {'one of ' + ', '.join(forms) if forms else 'left out'}")
        return form


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the result is saved in the recipe's output folder.
    """
    check_replaceable(recipe.output, source=recipe.network)
    start = time.perf_counter()
    with whole_folder(recipe.output) as folder:
        written = _written(recipe, folder, progress)
        seconds = {"seconds": round(time.perf_counter() - start, 1)}
        record = recipe.model_dump(mode="json") | {"measured": written.measured | seconds, "files": written.files}
        (folder / MARKER).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Outcome(record, lambda console: _show(record, console))


def _written(recipe: Recipe, folder: Path, progress: bool) -> TranslationOutput:
    """Translate into a folder: a checkpoint keeps its class and has its blocks swapped, any other network is rewritten."""
    form = recipe.form or next(iter(FORMS[recipe.to]), None)
    if recipe.network != "digits" and not Path(recipe.network).is_file():
        return _checkpoint(recipe, folder)
    original = read_original(recipe.network)
    if recipe.to == "kan":
        return write_kan(original, form, recipe.box, folder)
    if recipe.to == "relu":
        return write_relu(original, recipe.box, folder)
    limits = {"max_regions": recipe.max_regions, "max_seconds": recipe.max_seconds, "processes": recipe.processes}
    return write_three_layers(original, form, recipe.box, folder, **limits, progress=progress)


def _checkpoint(recipe: Recipe, folder: Path) -> TranslationOutput:
    """Swap the feed-forward blocks of a checkpoint."""
    if recipe.to == "three-layer":
        raise ConfigError(
            f"Three layers need a file with a multilayer perceptron, or `digits`, but `{recipe.network}` is no file. "
            "A language model is not piecewise linear; index_patterns lists the regions that data visits in one ReLU block."
        )
    if recipe.form not in (None, "fused"):
        raise ConfigError(f"The blocks of a checkpoint can take the form `fused` only, got `{recipe.form}`. Leave it out.")
    texts = None if recipe.data is None else list(islice(recipe.data.open().documents("train"), TEXTS))
    return write_checkpoint(recipe.network, recipe.to, folder, texts=texts, block=recipe.block, **recipe.loading)


def _show(record: dict[str, Any], console: Console) -> None:
    """Print what was measured, and where everything is."""
    console.print(f"{record['network']} as {record['to']}:", highlight=False)
    table = Table("measured", "", show_header=False)
    for name, value in record["measured"].items():
        table.add_row(name, f"{value:,.4g}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"Saved in {record['output']}: {', '.join(record['files'])}.", highlight=False)
