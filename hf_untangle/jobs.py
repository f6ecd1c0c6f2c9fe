"""Carry a recipe out: load, unlearn, save."""

from hf_untangle import models
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.folders import check_replaceable
from hf_untangle.recipe import CorpusChoice, UnlearnRecipe
from hf_untangle.unlearning import UnlearnResult, resolve_config, unlearn


def run(recipe: UnlearnRecipe, *, progress: bool = True) -> UnlearnResult:
    """Do the whole job of a recipe.

    Everything that can be checked without the model is checked before the model is loaded.

    Args:
        recipe: The job.
        progress: Whether to show progress bars.

    Returns:
        The result, which is saved in the recipe's output folder.
    """
    check_replaceable(recipe.output)
    config = resolve_config(recipe.preset, **recipe.settings)
    forget, retain = open_corpus(recipe.forget), open_corpus(recipe.retain)
    model, tokenizer = models.load(recipe.model, dtype=recipe.dtype, device_map=recipe.device_map)
    result = unlearn(model, forget, retain, tokenizer=tokenizer, config=config, prompts=recipe.prompts, progress=progress)
    embedded = models.EMBEDDED.get(recipe.model)
    result.save_pretrained(recipe.output, licence=embedded.licence if embedded else None)
    return result


def open_corpus(choice: CorpusChoice) -> Corpus:
    """Open the corpus that a recipe names.

    Args:
        choice: A source, with its column, split and preference.

    Returns:
        The corpus.
    """
    return corpus(choice.source, column=choice.column, split=choice.split, prefer=choice.prefer)
