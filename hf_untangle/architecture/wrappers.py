"""What stands around a model or inside its layers: compiled modules, those that spread batches, and adapters of peft."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from hf_untangle.errors import ArchitectureError

WRAPPED = ".base_layer"
"""How peft names the projection inside an adapter's layer."""


def unwrapped(model: nn.Module) -> nn.Module:
    """Find the model inside `torch.compile(model)`, `DataParallel` and `DistributedDataParallel`, however they are nested.

    Args:
        model: A model, wrapped or not.

    Returns:
        The model inside, by whose paths neurons are named; the model itself where there is no wrapper.
    """
    while True:
        if isinstance(model, DataParallel | DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = cast(nn.Module, model._orig_mod)
        else:
            return model


def model_below(model: nn.Module) -> Any:
    """Find the model that an adapter was put on.

    Args:
        model: A model, with an adapter of peft or without, and with other wrappers or without.

    Returns:
        The model below, in whose layers the adapter's stand; the model itself where there is no adapter. Usually a
        `PreTrainedModel`, though nothing keeps a caller from passing another module.

    Raises:
        ArchitectureError: The adapter is a learned prompt, which the model below does not have.
    """
    model = unwrapped(model)
    if not hasattr(model, "get_base_model"):
        return model
    adapted: Any = model
    if any(getattr(one, "is_prompt_learning", False) for one in adapted.peft_config.values()):
        raise ArchitectureError(
            "An adapter must be one of weights, such as LoRA, but this one is a learned prompt, which the model below does not "
            "have. Pass the model without it: `model.get_base_model()`."
        )
    return unwrapped(adapted.get_base_model())


def adapter_layers(model: nn.Module) -> list[nn.Module]:
    """List the layers of peft adapters that stand instead of projections of a model.

    Args:
        model: The model.

    Returns:
        The layers.
    """
    return [module for module in model.modules() if isinstance(getattr(module, "base_layer", None), nn.Module)]


def check_without_adapters(model: nn.Module) -> None:
    """Refuse a model with adapters of peft, around it or inside.

    Args:
        model: Any model.

    Raises:
        ArchitectureError: It has some.
    """
    inside = unwrapped(model)
    if hasattr(inside, "get_base_model") or adapter_layers(inside):
        raise ArchitectureError(
            f"The model must have no adapters for this, as a checkpoint of it is loaded without them, but this "
            f"{type(inside).__name__} carries some of peft. Merge them first with `model = peft_model.merge_and_unload()`, or "
            "do this to the model before it gets its adapters."
        )


@contextmanager
def adapters_disabled(model: nn.Module) -> Iterator[None]:
    """Let a model run without its adapters inside the `with` block.

    Args:
        model: The model below the adapters.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        for layer in adapter_layers(model):
            if hasattr(layer, "_disable_adapters"):
                undo.callback(setattr, layer, "_disable_adapters", layer._disable_adapters)
                setattr(layer, "_disable_adapters", True)  # noqa: B010 (its property has no setter)
        yield
