"""How large a model is, and how fast this machine multiplies: what the estimates of a plan are made from."""

import time
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from hf_untangle import models
from hf_untangle.errors import ArchitectureError

USED = 0.4
"""Share of the speed of large matrix products that whole passes reach: norms, attention and the head are slower."""
MEASURED_SECONDS = 0.3


@dataclass(frozen=True)
class ModelSize:
    """What a configuration says about a model, without its weights."""

    parameters: int
    layers: int
    hidden: int
    """Width of the residual stream."""
    intermediate: int
    """Width of the FFNs."""
    vocabulary: int
    dtype: torch.dtype

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.dtype.itemsize


def model_size(name: str, dtype: str = "auto") -> ModelSize:
    """Find out how large a model is from its configuration; no weights are read or downloaded.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.
        dtype: As in a recipe; `auto` is the checkpoint's own.

    Returns:
        Its size.

    Raises:
        ArchitectureError: Neither a folder nor the Hub has such a causal language model.
    """
    source = str(models.embedded_checkpoint(name)) if name in models.EMBEDDED else name
    try:
        config = AutoConfig.from_pretrained(source)
        with torch.device("meta"):
            parameters = AutoModelForCausalLM.from_config(config).num_parameters()
    except (OSError, ValueError) as error:
        raise ArchitectureError(
            f"`{name}` must be a folder with a checkpoint, a model on the Hub, or one of {sorted(models.EMBEDDED)}, but its "
            f"configuration could not be read: {str(error).partition(chr(10))[0]}"
        ) from error
    text = config.get_text_config()
    return ModelSize(
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        dtype=getattr(config, "dtype", None) or torch.float32 if dtype == "auto" else getattr(torch, dtype),
    )


def operations_a_second(size: ModelSize) -> float:
    """Measure for a moment how many operations of products as wide as a model's FFN this machine does in a second.

    Args:
        size: The model.

    Returns:
        Multiplications and additions a second, of which whole passes reach a share of `USED`.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    states = torch.randn(2048, size.hidden).to(device, size.dtype)
    weight = torch.randn(size.hidden, size.intermediate).to(device, size.dtype)
    (states @ weight).sum().item()
    start, products = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < MEASURED_SECONDS or not products:
        (states @ weight).sum().item()
        products += 1
    return USED * 2 * states.numel() * size.intermediate * products / seconds
