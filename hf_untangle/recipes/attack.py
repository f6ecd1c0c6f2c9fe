"""Attack: load what `unlearn` saved, try to get back what it forgot, and write the outcome into its record, page and card."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from transformers import PreTrainedModel

from hf_untangle import models
from hf_untangle.by_name import opened
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.folders import MARKER, check_file, check_replaceable
from hf_untangle.hub.cards import commit_of
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.model_option import HubOption
from hf_untangle.recipes.plan import Outcome
from hf_untangle.records.attacks import AttackRecord
from hf_untangle.reporting.attacks import attack_sentences, attack_settings, attack_table
from hf_untangle.reporting.verdicts import verdict_rows, verdict_sentences
from hf_untangle.results.unlearned import UnlearnResult


class Attacks(BaseModel):
    """Which attacks to run, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quick: bool = Field(default=False, description="Start from settings that fit ten minutes for SmolLM2 on two cores.")
    gold: str | None = Field(default=None, description="A model that never learnt the forget corpus, to stand beside.")
    neighbor: CorpusChoice | None = Field(
        default=None, description="A corpus near to the forget corpus; other programming languages for code when left out."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ, such as `attacks` or `seeds`.")

    def config(self) -> AttackConfig:
        """All settings, checked.

        Returns:
            The settings.

        Raises:
            ConfigError: A setting is unknown or out of its range.
        """
        return AttackConfig.resolve("quick" if self.quick else "default", **self.settings)

    def carry_out(self, result: UnlearnResult, *, original: PreTrainedModel | str | None, progress: bool) -> UnlearnResult:
        """Attack a result.

        Args:
            result: What unlearning gave, or a repair.
            original: The model before unlearning, or its name; the name in the record when None.
            progress: Whether to show progress bars.

        Returns:
            The result with the outcome in its record.
        """
        near = None if self.neighbor is None else self.neighbor.open()
        how = {"config": "quick" if self.quick else "default", "gold": self.gold, "neighbor": near, "original": original}
        return result.attack(progress=progress, **how, **self.settings)


class Recipe(HubOption, Attacks):
    """An attack on a saved result."""

    task: Literal["attack"] = Field(description="What kind of job this is.")
    folder: str = Field(description="A folder that an unlearning job wrote.")
    original: str | None = Field(default=None, description="The model before unlearning; the run's own when left out.")
    forget: CorpusChoice | None = Field(
        default=None, description="The run's forget corpus, which has to be named again only where it was a file."
    )
    retain: CorpusChoice | None = Field(default=None, description="The same for the retain corpus.")
    output: str | None = Field(
        default=None, description="Where to save the result with the outcome; into the folder itself when left out."
    )


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it. The checkpoint is as it was; record, page and card tell of the attacks.
    """
    recipe.config()
    if recipe.output is None:
        check_file(Path(recipe.folder, MARKER))
    else:
        check_replaceable(recipe.output, source=recipe.folder)
    chosen = {"forget": recipe.forget, "retain": recipe.retain}
    corpora = {use: choice.open() for use, choice in chosen.items() if choice is not None}
    result = UnlearnResult.from_pretrained(recipe.folder, corpora=corpora, **recipe.placing)
    result = recipe.carry_out(result, original=_original(recipe, result), progress=progress)
    license = models.license_of_embedded(result.record.model)
    if recipe.output is None:
        result.save_report(recipe.folder, license=license)
    else:
        result.save_pretrained(recipe.output, license=license)
    record = result.record.attacks[-1]

    def show(console: Console) -> None:
        show_attacks(record, console)
        console.print(f"Saved in {recipe.output or recipe.folder}: README.md, report.html and untangle.json tell of it.")

    return Outcome(record.model_dump(mode="json"), show)


def _original(recipe: Recipe, result: UnlearnResult) -> PreTrainedModel | str | None:
    """The model before unlearning: loaded here where its own code may run, else what it is called."""
    if not recipe.trust_remote_code:
        return recipe.original
    name, commit = (recipe.original, None) if recipe.original else (result.original_name, commit_of(result.record.revision))
    return opened(name, dtype=result.model.dtype, device_map=recipe.device_map, revision=commit, trust_remote_code=True)


def show_attacks(record: AttackRecord, console: Console) -> None:
    """Print the table and what was found besides.

    Args:
        record: The attacks.
        console: Where to print.
    """
    console.print(attack_table(record))
    for attack, dose, top1, expected, judgment in verdict_rows(record):
        beside = f"without the capability {expected}" if expected else "nothing beside it"
        console.print(f"- {attack}: {judgment} ({dose}: {top1}, {beside})", highlight=False)
    for sentence in (attack_settings(record), *attack_sentences(record), *verdict_sentences(record)):
        console.print(f"- {sentence}", highlight=False)
