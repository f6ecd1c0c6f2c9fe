"""Models by name wherever a model is taken: a Hub id, a folder, or the embedded SmolLM2."""

from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn
from transformers import AutoConfig

from hf_untangle import models

Model = TypeVar("Model", bound=nn.Module)

KINDS: dict[str, models.Kind] = {"ForImageClassification": "image-classifier", "ForMaskedLM": "masked-lm"}
"""The kind of a model, by what is in the name of its class."""

ModelName = str | Path
"""What `load` takes: a Hub id, a folder, or a key of `EMBEDDED`."""


def opened(model: Model | ModelName, *, dtype: torch.dtype | str = "auto") -> Model:
    """Load a model that was given by its name; a model that is there already is handed back.

    Args:
        model: A model, or its name or path: its configuration says whether it predicts next tokens, masked tokens or classes.
        dtype: The dtype of a model that is loaded, as in `load`.

    Returns:
        The model.

    Raises:
        ArchitectureError: There is no such model.
    """
    if isinstance(model, nn.Module):
        return model
    name = str(model)
    kind = kind_of(name)
    if kind == "image-classifier":
        return cast(Model, models.load_classifier(name, dtype=dtype))
    return cast(Model, models.load(name, dtype=dtype, kind=kind)[0])


def kind_of(name: str) -> models.Kind:
    """Tell what a model that is not loaded yet predicts, by the class that its configuration names.

    Args:
        name: A Hub id, a folder, or a key of `EMBEDDED`.

    Returns:
        The kind; a causal language model where the configuration names no class, or cannot be read.
    """
    try:
        with models.checkpoint_of(name) as source:
            classes = AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or []
    except Exception:  # They are of many kinds; loading the model says what is wrong.
        return "causal-lm"
    found: list[models.Kind] = [kind for head, kind in KINDS.items() if any(head in name for name in classes)]
    return found[0] if found else "causal-lm"
