"""Writing a model as an ordinary checkpoint, also where its weights are offloaded or were read from GGUF."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from hf_untangle.architecture.offload import is_offloaded
from hf_untangle.architecture.parameters import read_parameter
from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.architecture.sharding import is_sharded
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.errors import ConfigError
from hf_untangle.folders import temporary_folder


def save_model(model: PreTrainedModel, folder: str | Path, weights: dict[str, Tensor] | None = None) -> None:
    """Write a checkpoint as `model.save_pretrained` does, wherever the weights are.

    transformers refuses a model that was read from GGUF, though its weights are plain floating point by then, and settings of
    generation that contradict each other, which many checkpoints have; both are written as they are. Layers that share their
    weights without their class knowing get a copy each. Weights that a `device_map` has offloaded are brought shard by shard;
    those that were offloaded by hand, with `cpu_offload` or `disk_offload`, and those that are spread over processes must be
    `gathered` before.

    Args:
        model: The model.
        folder: Where to write.
        weights: What `gathered` gave.

    Raises:
        ArchitectureError: Plain loading could not read the checkpoint.
        ConfigError: transformers refuses to write the model's configuration.
    """
    check_savable(model)
    with _without_gguf_record(model), _generation_config_as_it_is(model, Path(folder)), catch_warnings():
        filterwarnings("ignore", "Attempting to save a model with offloaded modules", UserWarning)
        model.save_pretrained(folder, state_dict=_each_once(model, weights or model.state_dict()))


def check_savable(model: PreTrainedModel) -> None:
    """Refuse a model whose checkpoint could not be written, or not be read by plain loading.

    Args:
        model: The model.

    Raises:
        ArchitectureError: It has adapters, or weights that are computed again whenever it runs.
        ConfigError: transformers refuses to write its configuration.
    """
    check_without_adapters(model)
    check_not_recomputed(model)
    with _without_gguf_record(model), temporary_folder() as folder:
        try:
            model.config.save_pretrained(folder)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                "The configuration of the model must be one that transformers writes into a checkpoint, but it "
                f"refuses: {' '.join(str(error).split())} Change `model.config` first."
            ) from error


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
    return {name: read_parameter(model, name).cpu() for name in _each_once(model, model.state_dict())}


def _each_once(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what is tied to other weights while it is offloaded, and copy what is shared without being declared as tied.

    transformers tells tied weights by their storage, which placeholders of offloaded ones do not have.
    """
    tied = getattr(model, "all_tied_weights_keys", {})
    seen: set[int] = set()
    written: dict[str, Tensor] = {}
    for name, weight in weights.items():
        # A quantized model has entries that are no tensors, and those of a sharded one have no storage.
        is_ordinary = type(weight) is Tensor and not weight.is_meta
        if isinstance(weight, Tensor) and weight.is_meta and tied.get(name) in weights:
            continue
        storage = weight.untyped_storage().data_ptr() if is_ordinary else 0
        is_copy = bool(storage) and storage in seen and name not in tied and name not in tied.values()
        seen.add(storage)
        written[name] = weight.clone() if is_copy else weight
    return written


@contextmanager
def _generation_config_as_it_is(model: PreTrainedModel, folder: Path) -> Iterator[None]:
    """Write the model's settings of generation after the `with` block, where transformers would refuse to write them."""
    own = getattr(model, "generation_config", None)
    if own is None or _is_valid(own):
        yield
        return
    with ExitStack() as undo:
        undo.callback(setattr, model, "generation_config", own)
        model.generation_config = GenerationConfig()
        yield
    own.to_json_file(folder / "generation_config.json")


def _is_valid(settings: GenerationConfig) -> bool:
    """Tell whether transformers would write these settings."""
    try:
        settings.validate(strict=True)
    except ValueError:
        return False
    return True


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
