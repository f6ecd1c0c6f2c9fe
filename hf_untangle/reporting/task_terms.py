"""How reports speak of what a model predicts."""

from dataclasses import dataclass
from typing import Any

from hf_untangle.data.tokens import Task


@dataclass(frozen=True)
class Wording:
    """The words for one task."""

    predicts: str
    """What is predicted, before `prediction` and `accuracy`."""
    material: str
    """What is predicted in, when held out."""
    unit: str
    """What is counted."""
    pipeline: str
    """The Hub's name for the task."""
    loader: str
    """The class of transformers that loads such a model."""


WORDING: dict[Task, Wording] = {
    "next token": Wording("next-token", "text", "tokens", "text-generation", "AutoModelForCausalLM"),
    "masked token": Wording("masked-token", "text", "tokens", "fill-mask", "AutoModelForMaskedLM"),
    "class": Wording("class", "images", "images", "image-classification", "AutoModelForImageClassification"),
}


def wording(record: Any) -> Wording:
    """Find the words for a run.

    Args:
        record: What it wrote down; one that names no task is about next tokens.

    Returns:
        The words.
    """
    task: Task = getattr(record, "task", "next token")
    return WORDING[task]
