"""Writing a model as an ordinary checkpoint, also where its weights are offloaded or were read from GGUF."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.offload import is_offloaded
from hf_untangle.architecture.parameters import read_parameter
from hf_untangle.architecture.sharding import is_sharded


def save_model(model: PreTrainedModel, folder: str | Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a checkpoint as `model.save_pretrained` does, wherever the weights are.

    transformers refuses a model that was read from GGUF, though its weights are plain floating point by then; it is written as
    what it is. Weights that a `device_map` has offloaded are brought shard by shard; those that were offloaded by hand, with
    `cpu_offload` or `disk_offload`, and those that are spread over processes must be `gathered` before.

    Args:
        model: The model.
        folder: Where to write.
        weights: What `gathered` gave.
    """
    with _without_gguf_record(model), catch_warnings():
        filterwarnings("ignore", "Attempting to save a model with offloaded modules", UserWarning)
        model.save_pretrained(folder, state_dict=weights)


def bytes_of(model: PreTrainedModel) -> int:
    """How much space a checkpoint of a model takes.

    Args:
        model: The model.

    Returns:
        Bytes of its parameters, tied ones once.
    """
    return sum(one.numel() * one.element_size() for one in model.parameters())


def gathered(model: PreTrainedModel) -> dict[str, Tensor] | None:
    """Bring all weights together where transformers would find placeholders, or parts. All processes must call this.

    Args:
        model: The model.

    Returns:
        The weights on the CPU; None where transformers finds them by itself.
    """
    by_hand = is_offloaded(model) and not hasattr(model, "hf_device_map")
    if not (by_hand or is_sharded(model)):
        return None
    return {name: read_parameter(model, name).cpu() for name in model.state_dict()}


@contextmanager
def _without_gguf_record(model: PreTrainedModel) -> Iterator[None]:
    """Let a model forget inside the `with` block that it was read from GGUF."""
    own: Any = model
    quantizer = getattr(own, "hf_quantizer", None)
    record = getattr(own.config, "quantization_config", None)
    if getattr(record, "quant_method", None) != "gguf":
        yield
        return
    with ExitStack() as undo:
        undo.callback(setattr, own, "hf_quantizer", quantizer)
        undo.callback(setattr, own.config, "quantization_config", record)
        own.hf_quantizer = None
        del own.config.quantization_config
        yield
