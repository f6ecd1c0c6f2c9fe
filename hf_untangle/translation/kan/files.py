"""KANs in safetensors files: the parameters of every layer, and beside them what kind of layer each is.

A checkpoint of a Hugging Face model needs none of this: `to_kan_` leaves it a checkpoint of the original model.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, kan_layers
from hf_untangle.translation.kan.splines import PiecewiseLinearKANLayer
from hf_untangle.translation.weights import linear_of

KIND = "hf_untangle.kan/1"

ACTIVATIONS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Identity: (),
    nn.ReLU: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.ReLU6: (),
    nn.Hardsigmoid: (),
    nn.Softshrink: ("lambd",),
}
"""The activations that a file can name, and the settings that make each of them."""


def save_kan(kan: nn.Module, file: str | Path) -> None:
    """Write a KAN as one safetensors file.

    Args:
        kan: One KAN layer, or a Sequential of them.
        file: Where to write.

    Raises:
        TranslationError: It is no KAN, or an activation on its edges is none of `ACTIVATIONS`.
    """
    layers = kan_layers(kan)
    record = {"layers": [_description(layer) for layer in layers]}
    tensors = {
        f"{number}.{name}": tensor.detach().clone()
        for number, layer in enumerate(layers)
        for name, tensor in layer.state_dict().items()
    }
    write_tensors(file, tensors, kind=KIND, record=record)


def load_kan(file: str | Path) -> nn.Sequential:
    """Read what `save_kan` wrote.

    Args:
        file: A safetensors file.

    Returns:
        The same KAN, in evaluation mode.

    Raises:
        TranslationError: The file holds no KAN of this package.
    """
    tensors, record = read_tensors(file, kind=KIND, what="a KAN", error=TranslationError)
    layers = [_layer(description, _of_layer(tensors, number)) for number, description in enumerate(record["layers"])]
    return nn.Sequential(*layers).eval()


def holds_kan(file: str | Path) -> bool:
    """Say whether a file was written by `save_kan`.

    Args:
        file: Any file.

    Returns:
        True if its header says so.
    """
    try:
        with safe_open(file, framework="pt") as content:
            return (content.metadata() or {}).get("format") == KIND
    except (OSError, SafetensorError):
        return False


def _description(layer: KANLayer) -> dict[str, Any]:
    """What kind of layer it is, as far as its tensors do not say."""
    if isinstance(layer, PiecewiseLinearKANLayer):
        return {"edges": "piecewise linear"}
    kind = type(layer.activation)
    if kind not in ACTIVATIONS:
        known = ", ".join(known.__name__ for known in ACTIVATIONS)
        raise TranslationError(
            f"A file can name the activations {known}, but the edges of this KAN are scaled {kind.__name__}s. "
            "Save the network that it was made of, and translate it again."
        )
    settings = {name: getattr(layer.activation, name) for name in ACTIVATIONS[kind]}
    return {"edges": "scaled", "activation": kind.__name__, "settings": settings}


def _of_layer(tensors: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """The tensors of one layer, by the names that they have in it."""
    prefix = f"{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _layer(description: dict[str, Any], tensors: dict[str, Tensor]) -> KANLayer:
    """One layer, made of its description and its tensors."""
    if description["edges"] == "piecewise linear":
        return PiecewiseLinearKANLayer(**tensors)
    kinds = {kind.__name__: kind for kind in ACTIVATIONS}
    return ActivationKANLayer(
        linear_of(tensors["weight"], tensors.get("bias")), kinds[description["activation"]](**description["settings"])
    )
