"""Random inputs for tiny models of every task."""

from typing import Any

import torch

from hf_untangle.survey.tiny_models import Task
from hf_untangle.survey.tiny_sizes import POSITIONS, VOCABULARY

IMAGE = (3, 16, 16)
MEL_BINS = 80


def random_inputs(task: Task) -> dict[str, Any]:
    """Draw two inputs, the same every time.

    Args:
        task: What the model is for.

    Returns:
        Keyword arguments of the model.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, VOCABULARY - 6, (2, 6), generator=generator)
    text = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    images = {"pixel_values": torch.randn(2, *IMAGE, generator=generator)}
    sounds = {"input_features": torch.randn(2, MEL_BINS, 2 * POSITIONS, generator=generator)}
    answers = {"decoder_input_ids": tokens.flip(0)}
    inputs: dict[Task, dict[str, Any]] = {
        "causal-lm": text,
        "masked-lm": text,
        "sequence-to-sequence": text | answers,
        "image": images,
        "towers": text | images,
        "speech": sounds | answers,
    }
    return inputs[task]
