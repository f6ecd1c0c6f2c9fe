"""Writing a model as an ordinary checkpoint, also where its weights are offloaded or were read from GGUF."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import is_offloaded
from hf_untangle.architecture.parameters import read_parameter


def save_model(model: PreTrainedModel, folder: str | Path) -> None:
    """Write a checkpoint as `model.save_pretrained` does, wherever the weights are.

    transformers refuses a model that was read from GGUF, though its weights are plain floating point by then; it is written as
    what it is. Weights that a `device_map` has offloaded are brought shard by shard; those that were offloaded by hand, with
    `cpu_offload` or `disk_offload`, are brought all together.

    Args:
        model: The model.
        folder: Where to write.
    """
    with _without_gguf_record(model), catch_warnings():
        filterwarnings("ignore", "Attempting to save a model with offloaded modules", UserWarning)
        model.save_pretrained(folder, state_dict=_gathered(model))


def _gathered(model: PreTrainedModel) -> dict[str, Tensor] | None:
    """All weights where transformers would find placeholders alone; None where it finds them by itself."""
    if not is_offloaded(model) or hasattr(model, "hf_device_map"):
        return None
    return {name: read_parameter(model, name) for name in model.state_dict()}


@contextmanager
def _without_gguf_record(model: PreTrainedModel) -> Iterator[None]:
    """Let a model forget inside the `with` block that it was read from GGUF."""
    own: Any = model
    quantiser = getattr(own, "hf_quantizer", None)
    record = getattr(own.config, "quantization_config", None)
    if getattr(record, "quant_method", None) != "gguf":
        yield
        return
    own.hf_quantizer = None
    del own.config.quantization_config
    try:
        yield
    finally:
        own.hf_quantizer, own.config.quantization_config = quantiser, record
