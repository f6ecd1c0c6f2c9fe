"""Models by name wherever a model is taken: a Hub id, a folder, or the embedded SmolLM2."""

from pathlib import Path
from typing import TypedDict, TypeVar, Unpack, cast

import torch
from torch import nn
from transformers import AutoConfig

from hf_untangle import models

Model = TypeVar("Model", bound=nn.Module)

KINDS: dict[str, models.Kind] = {"ForImageClassification": "image-classifier", "ForMaskedLM": "masked-lm"}
"""The kind of a model, by what is in the name of its class."""

ModelName = str | Path
"""What `load` takes: a Hub id, a folder, or a key of `EMBEDDED`."""


class Loading(TypedDict, total=False):
    """How to load a model, in the words of transformers."""

    device_map: str | None
    """As in `from_pretrained`."""
    revision: str | None
    """A branch, a tag or a commit of a model on the Hub; `main` when left out."""
    trust_remote_code: bool
    """Whether code that lies beside the weights may run; never asked for, and never when left out."""


def opened(model: Model | ModelName, *, dtype: torch.dtype | str = "auto", **how: Unpack[Loading]) -> Model:
    """Load a model that was given by its name; a model that is there already is handed back.

    Args:
        model: A model, or its name or path: its configuration says whether it predicts next tokens, masked tokens or classes.
        dtype: The dtype of a model that is loaded, as in `load`.
        **how: `device_map`, `revision` and `trust_remote_code` of a model that is loaded, as in `load`.

    Returns:
        The model.

    Raises:
        ArchitectureError: There is no such model.
    """
    if isinstance(model, nn.Module):
        return model
    name = str(model)
    kind = kind_of(name, **how)
    if kind == "image-classifier":
        return cast(Model, models.load_classifier(name, dtype=dtype, **how))
    return cast(Model, models.load(name, dtype=dtype, kind=kind, **how)[0])


def kind_of(name: str, **how: Unpack[Loading]) -> models.Kind:
    """Tell what a model that is not loaded yet predicts, by the class that its configuration names.

    Args:
        name: A Hub id, a folder, or a key of `EMBEDDED`.
        **how: As in `opened`.

    Returns:
        The kind; a causal language model where the configuration names no class, or cannot be read.
    """
    try:
        with models.checkpoint_of(name) as source:
            trust, revision = how.get("trust_remote_code", False), how.get("revision") or models.MAIN
            config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust)
            classes = config.architectures or []
    except Exception:  # They are of many kinds; loading the model says what is wrong.
        return "causal-lm"
    found: list[models.Kind] = [kind for head, kind in KINDS.items() if any(head in name for name in classes)]
    return found[0] if found else "causal-lm"
