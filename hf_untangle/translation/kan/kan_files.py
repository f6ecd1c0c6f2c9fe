"""KANs in safetensors files: the parameters of every layer, and beside them what kind of layer each is.

A checkpoint of a Hugging Face model does not need this: `to_kan_` leaves it a checkpoint of the original model.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import TranslationError
from hf_untangle.files.records import FileRecord
from hf_untangle.files.tensors import LARGEST, Content, format_of, read_tensors, write_tensors
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, kan_layers
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.linear_weights import linear_of

KIND = "hf_untangle.kan/1"

ACTIVATIONS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Identity: (),
    nn.ReLU: (),
    nn.LeakyReLU: ("negative_slope",),
    nn.Hardtanh: ("min_val", "max_val"),
    nn.ReLU6: (),
    nn.Hardsigmoid: (),
    nn.Softshrink: ("lambd",),
    nn.RReLU: ("lower", "upper"),
    nn.Threshold: ("threshold", "value"),
}
"""The activations that a file can name, and the settings that make each of them."""


@checked_arguments
def save_kan(kan: nn.Module, file: str | Path) -> None:
    """Write a KAN as one safetensors file.

    Args:
        kan: One KAN layer, or a Sequential of them.
        file: Where to write.

    Raises:
        TranslationError: It is no KAN, or an activation on its edges is not among `ACTIVATIONS`.
    """
    layers = kan_layers(kan)
    record = {"layers": [_description(layer) for layer in layers]}
    tensors = {
        f"{number}.{name}": tensor.detach().clone()
        for number, layer in enumerate(layers)
        for name, tensor in layer.state_dict().items()
    }
    write_tensors(file, tensors, kind=KIND, record=record)


@checked_arguments
def load_kan(file: str | Path) -> nn.Sequential:
    """Read what `save_kan` wrote.

    Args:
        file: A safetensors file.

    Returns:
        The same KAN, in evaluation mode.

    Raises:
        TranslationError: The file holds no KAN of this package.
    """
    content = read_tensors(file, kind=KIND, what="a KAN", error=TranslationError, record=_KANRecord)
    described = content.record.layers
    layers = [_layer(content, f"{number}.", layer) for number, layer in enumerate(described)]
    content.check_names(f"{number}.{name}" for number, layer in enumerate(layers) for name in layer.state_dict())
    for number, (before, behind) in enumerate(pairwise(layers)):
        if before.out_features != behind.in_features:
            raise content.expected.fault(
                f"{before.out_features} outputs of layer {number} and {behind.in_features} inputs of the next"
            )
    return nn.Sequential(*layers).eval()


def holds_kan(file: str | Path) -> bool:
    """Say whether a file was written by `save_kan`.

    Args:
        file: Any file.

    Returns:
        True if its header says so.
    """
    try:
        return format_of(file, "a KAN", TranslationError) == KIND
    except TranslationError:
        return False


class _SplineRecord(FileRecord):
    """A layer whose edges are piecewise linear."""

    edges: Literal["piecewise linear"]


class _ActivationRecord(FileRecord):
    """A layer whose edges are one activation, scaled."""

    edges: Literal["scaled"]
    activation: Literal["Identity", "ReLU", "LeakyReLU", "Hardtanh", "ReLU6", "Hardsigmoid", "Softshrink", "RReLU", "Threshold"]
    settings: dict[str, Annotated[float, Field(ge=-LARGEST, le=LARGEST)]]
    """What makes the activation."""


class _KANRecord(FileRecord):
    """What a file says of a KAN, as far as its tensors do not."""

    layers: tuple[Annotated[_SplineRecord | _ActivationRecord, Field(discriminator="edges")], ...] = Field(min_length=1)


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


def _layer(content: Content[_KANRecord], prefix: str, described: _SplineRecord | _ActivationRecord) -> KANLayer:
    """One layer, made of its description and its tensors."""
    if isinstance(described, _SplineRecord):
        outputs, inputs, knots = content.finite(f"{prefix}values", (None, None, None)).shape
        edges, every = (outputs, inputs), (outputs, inputs, knots)
        shapes = {"knots": (None, inputs, knots), "values": every, "left_slopes": edges, "right_slopes": edges}
        parts = {name: content.finite(f"{prefix}{name}", shape) for name, shape in shapes.items()}
        if parts["knots"].shape[0] not in (1, outputs):
            raise content.expected.fault(f"knots for another number of outputs than the {outputs} of its values")
        try:
            return PiecewiseLinearKANLayer(**parts, bias=_bias(content, prefix, outputs))
        except TranslationError as error:
            raise content.expected.fault(f"a layer that is none: {error}") from error
    weight = content.finite(f"{prefix}weight", (None, None))
    bias = _bias(content, prefix, len(weight))
    if bias is not None and bias.dtype != weight.dtype:
        raise content.expected.fault(f"a bias of another dtype than the weight in layer {prefix.rstrip('.')}")
    return ActivationKANLayer(linear_of(weight, bias), _activation(content, described))


def _bias(content: Content[_KANRecord], prefix: str, outputs: int) -> Tensor | None:
    """What every output of a layer adds, where there is such."""
    return content.finite(f"{prefix}bias", (outputs,)) if f"{prefix}bias" in content.tensors else None


def _activation(content: Content[_KANRecord], described: _ActivationRecord) -> nn.Module:
    """The activation that a layer names."""
    kind, names = next((kind, names) for kind, names in ACTIVATIONS.items() if kind.__name__ == described.activation)
    if described.settings.keys() != set(names):
        raise content.expected.fault(f"settings of {described.activation} that are not {', '.join(names) or 'none'}")
    try:
        return kind(**described.settings)
    except (ValueError, AssertionError) as error:
        raise content.expected.fault(f"settings of {described.activation} that cannot be ({error})") from error
