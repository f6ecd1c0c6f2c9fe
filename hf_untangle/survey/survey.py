"""The survey of many types of models, one after the other."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from hf_untangle.errors import ArchitectureError
from hf_untangle.survey.support import Support, support_of
from hf_untangle.survey.tiny_models import Task, causal_types

CAUSAL: Task = "causal-lm"
OTHER_TYPES: dict[str, Task] = {
    "bert": "masked-lm",
    "roberta": "masked-lm",
    "albert": "masked-lm",
    "deberta": "masked-lm",
    "deberta-v2": "masked-lm",
    "modernbert": "masked-lm",
    "llava": "image-text",
    "qwen2_vl": "image-text",
    "t5": "sequence-to-sequence",
    "bart": "sequence-to-sequence",
    "vit": "image",
    "deit": "image",
    "clip": "towers",
    "whisper": "speech",
}
"""Types that are more than, or other than, causal language models, and what they are for."""


def sweep(types: Sequence[str] | None = None) -> Iterator[Support]:
    """Survey types of models.

    Args:
        types: Which; every causal language model that the installed transformers knows, and `OTHER_TYPES`, when None.

    Yields:
        What works on each type and task.

    Raises:
        ArchitectureError: A type is unknown to the installed transformers.
    """
    causal = causal_types()
    asked = [*causal, *OTHER_TYPES] if types is None else types
    for name in asked:
        if name not in CONFIG_MAPPING:
            raise ArchitectureError(f"A model type must be one that transformers knows, got `{name}`.")
    tasks: list[tuple[str, Task]] = [*((name, CAUSAL) for name in causal), *OTHER_TYPES.items()]
    for name, task in tasks:
        if name not in asked:
            continue
        with quiet():
            support = support_of(name, task)
        yield support


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from telling what it thinks of random weights, and from showing bars.

    Yields:
        Nothing.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
