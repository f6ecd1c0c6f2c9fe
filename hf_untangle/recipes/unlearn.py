"""Unlearn: load a model, take a capability out of it, repair, make it robust, attack, save, compact and push what is left."""

from typing import Any, Literal

from pydantic import Field
from rich.console import Console
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.compaction.saving import bytes_of
from hf_untangle.config import checked
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.robustify import Robustify, RobustifyConfig, as_settings
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.images import ImageClasses
from hf_untangle.methods.automatic import choose
from hf_untangle.methods.choose import AUTO, PRUNE, method_names, split_settings
from hf_untangle.models import Kind
from hf_untangle.recipes.attack import Attacks
from hf_untangle.recipes.compact import Compaction
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.digits_vit import NAME, digits_vit
from hf_untangle.recipes.estimates import method_stage, unlearning_stages
from hf_untangle.recipes.model_option import ModelOption
from hf_untangle.recipes.model_size import bare_model, size_of
from hf_untangle.recipes.pipeline import Afterwards
from hf_untangle.recipes.plan import Outcome, Plan
from hf_untangle.recipes.push import PushTarget
from hf_untangle.recipes.speed import measure_speed
from hf_untangle.reporting.table import budget_verdict, comparison_table, selectivity_verdict, summary
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.unlearn import unlearn


class Recipe(ModelOption):
    """An unlearning job."""

    task: Literal["unlearn"] = Field(description="What kind of job this is.")
    model: str = Field(description="A Hub id, a folder, or `smollm2`, which needs no network; `digits-vit` is trained here.")
    kind: Kind = Field(default="causal-lm", description="What the model predicts: next tokens, masked tokens, or classes.")
    forget: CorpusChoice = Field(
        description="The corpus whose capability goes: its source alone, or what to read of it; `digits:0,1` for classes."
    )
    retain: CorpusChoice | None = Field(
        default=None, description="The same for what stays, or a list of several: `general` prose, or all other classes."
    )
    also: dict[str, CorpusChoice] = Field(
        default_factory=dict, description="What else to measure before and after, by name, such as paraphrases."
    )
    method: str | tuple[str, ...] = Field(
        default="auto", description="`auto`, `prune`, another method such as `npo`, or several that are applied in order."
    )
    preset: str = Field(
        default="default", description="Settings to start from: `default`, `quick` for a first look, or `paper`."
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings that differ from the preset's.")
    prompts: tuple[str, ...] | None = Field(default=None, description="Texts to continue before and after, for the report.")
    keep_removed: bool = Field(
        default=False, description="Write what was removed beside the result, so that `restore` can undo it."
    )
    repair: RepairConfig | None = Field(default=None, description="Train on the retain corpus afterwards; `{}` for defaults.")
    robustify: float | Robustify | None = Field(
        default=None,
        description="Distill the result so that it withstands relearning: a strength such as 0.25, or settings.",
    )
    attack: Attacks | None = Field(default=None, description="Try to get back what was forgotten; `{quick: true}` is short.")
    compact: Compaction | None = Field(default=None, description="Write a smaller checkpoint too, without what was removed.")
    push: PushTarget | None = Field(default=None, description="Push the result to the Hub, as small as it is then.")
    output: str = Field(description="The folder that the result is written to.")

    @property
    def methods(self) -> tuple[str, ...]:
        """What is applied, in order; what is to be compacted is pruned, where the method is left open."""
        names = method_names(self.method)
        return (PRUNE,) if names == (AUTO,) and self.compact is not None else names

    @property
    def afterwards(self) -> Afterwards:
        """What to do once the model has unlearned."""
        embedded = models.EMBEDDED.get(self.model)
        license = embedded.license if embedded else None
        robust = None if self.robustify is None else checked(RobustifyConfig, as_settings(self.robustify))
        return Afterwards(self.output, license, self.repair, robust, self.attack, self.compact, self.push)


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Everything that can be checked without the model is checked before the model is loaded.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        What came of it; the result is saved in the recipe's output folder.
    """
    recipe.afterwards.check(recipe.model)
    names = recipe.methods
    split_settings(names, recipe.preset, recipe.settings)
    forget, retain = _open(recipe, recipe.forget), None if recipe.retain is None else _open(recipe, recipe.retain)
    also = {name: choice.open() for name, choice in recipe.also.items()}
    model, tokenizer = _load(recipe, progress)
    recipe.afterwards.check(recipe.model, needs=bytes_of(model))
    how = {"method": names, "config": recipe.preset, "prompts": recipe.prompts, "progress": progress, "also": also}
    how["keep_removed"] = recipe.keep_removed
    result = unlearn(model, forget, retain, tokenizer=tokenizer, **how, **recipe.settings)
    original = recipe.named(recipe.model) if recipe.afterwards.needs_original else recipe.model
    result, more = recipe.afterwards.carry_out(result, original=original, progress=progress)

    def show_all(console: Console) -> None:
        show(result, recipe.output, console)
        recipe.afterwards.show(result, more, console)

    return Outcome(result.record.model_dump(mode="json") | more, show_all)


def plan(recipe: Recipe) -> Plan:
    """Estimate time and memory of a job on this machine.

    Everything that can be checked without the model is checked as before a run. Of the model its configuration alone is read.

    Args:
        recipe: The job.

    Returns:
        The stages; none for other models than causal language models, of which there is no estimate.
    """
    recipe.afterwards.check(recipe.model)
    names = recipe.methods
    choice = choose(names, None, (), "next token", recipe.preset, recipe.settings)
    names, (config, own) = choice.names, split_settings(choice.names, recipe.preset, choice.settings)
    if recipe.kind != "causal-lm":
        return Plan(recipe.model_dump(mode="json"), (), None)
    model = bare_model(recipe.model, revision=recipe.revision, trust_remote_code=recipe.trust_remote_code)
    size = size_of(model, recipe.dtype)
    pruning = unlearning_stages(size, config)
    trained = tuple(method_stage(size, name, own, config) for name in names if name != PRUNE)
    # A method that trains reads statistics once, and takes its own measurements.
    stages = (
        (pruning if PRUNE in names else pruning[:1]) + trained + recipe.afterwards.stages(size, 2 * config.evaluation_tokens)
    )
    return Plan(recipe.model_dump(mode="json"), stages, measure_speed(model, size.dtype))


def _open(recipe: Recipe, choice: CorpusChoice) -> Corpus | ImageClasses:
    """Open what a recipe names: a corpus of text, or classes of images."""
    if recipe.kind != "image-classifier":
        return choice.open()
    from hf_untangle.data.image_classes import image_classes

    return image_classes(choice.source)


def _load(recipe: Recipe, progress: bool) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load the model, with its tokenizer where it reads text."""
    if recipe.model == NAME:
        return digits_vit(progress=progress), None
    if recipe.kind == "image-classifier":
        return models.load_classifier(recipe.model, **recipe.loading), None
    return models.load(recipe.model, kind=recipe.kind, **recipe.loading)


def show(result: UnlearnResult, output: str, console: Console) -> None:
    """Print the table, the continuations and where everything is.

    Args:
        result: The result.
        output: The folder that it was saved in.
        console: Where to print.
    """
    console.print()
    console.print(comparison_table(result.record))
    for text in result.record.continuations:
        console.rule(style="dim")
        for title, continuation in (("prompt", text.prompt), ("before", text.before), ("after", text.after)):
            console.print(title, style="bold")
            console.print(continuation.strip(), "", sep="\n", markup=False, highlight=False)
    console.print(summary(result.record), highlight=False)
    console.print(budget_verdict(result.record), highlight=False)
    if chance := selectivity_verdict(result.record):
        console.print(chance, highlight=False)
    console.print(f"Saved in {output}: a checkpoint for from_pretrained, mask.safetensors, untangle.json (every step),")
    console.print(f"and {output}/report.html to look at.")
