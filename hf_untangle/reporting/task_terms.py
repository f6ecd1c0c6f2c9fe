"""How reports speak of what a model predicts."""

from dataclasses import dataclass
from typing import Any

from hf_untangle.data.tokens import Task
from hf_untangle.records.unlearning import UnlearnRecord


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


def understood_lines(record: UnlearnRecord) -> tuple[str, ...]:
    """Say what rows with answers were taken for.

    Args:
        record: The run.

    Returns:
        One line per use whose test part has answers.
    """
    tests = ((use, record.corpora[f"{use}_test"]) for use in ("forget", "retain"))
    return tuple(f"{use}: {one['corpus']}: {one['understood']} in the test part" for use, one in tests if "understood" in one)
