"""Which parameters of a model single-weight pruning may take."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from torch import Tensor, nn

from hf_untangle.architecture.recomputed import check_not_recomputed
from hf_untangle.errors import ArchitectureError, MaskError
from hf_untangle.masks.removal import EDITABLE


@dataclass(frozen=True, eq=False)
class Prunable:
    """The parameters that may go, and why others may not."""

    parameters: dict[str, nn.Parameter]
    """By name; a shared parameter once, under its first name."""
    skipped: dict[str, str]
    """Why a parameter of an asked-for part stays whole."""


def prunable_parameters(model: nn.Module, parts: Sequence[str] = ("weights",), skip: Sequence[str] = ()) -> Prunable:
    """Find the parameters that may be pruned weight by weight.

    A parameter belongs to one of four parts: `embeddings` are those of embedding modules; of all others, `weights` have two
    axes or more (matrices, kernels, fused experts), `norms` have one and belong to a module without a matrix, and `biases` are
    the rest. An output layer whose weights are an embedding too is an embedding.

    Args:
        model: Any module.
        parts: The parts to take.
        skip: Patterns of names that stay whole.

    Returns:
        The parameters.

    Raises:
        ArchitectureError: There are none, or some are computed again whenever the model runs.
        MaskError: Some of them are quantized, or not loaded.
    """
    check_not_recomputed(model)
    uses = defaultdict(list)
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            uses[parameter].append((f"{path}.{name}".lstrip("."), _part(module, parameter)))
    found, skipped = {}, {}
    for parameter, places in uses.items():
        name = places[0][0]
        reason = _reason_to_skip(places, parts, skip)
        if reason is None:
            _check_editable(name, parameter)
            found[name] = parameter
        elif reason:
            skipped[name] = reason
    if not found:
        raise ArchitectureError(
            f"A sweep needs parameters that can be pruned, but this {type(model).__name__} has none in {', '.join(parts)}"
            f"{f' ({len(skipped)} skipped)' if skipped else ''}. Choose other parts, or skip less."
        )
    return Prunable(found, skipped)


def _part(module: nn.Module, parameter: Tensor) -> str:
    """The part that a parameter belongs to."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embeddings"
    if parameter.ndim >= 2:
        return "weights"
    own = module.parameters(recurse=False)
    return "biases" if any(other.ndim >= 2 for other in own) else "norms"


def _reason_to_skip(places: list[tuple[str, str]], parts: Sequence[str], skip: Sequence[str]) -> str | None:
    """Why a parameter stays: None when it does not, and nothing to say when nobody asked for it."""
    if not any(part in parts for _, part in places):
        return ""
    if any(fnmatch(name, pattern) for name, _ in places for pattern in skip):
        return "skipped by name"
    embedding = next((name for name, part in places if part == "embeddings"), None)
    if embedding is not None and "embeddings" not in parts:
        return f"tied to the embedding `{embedding}`"
    return None


def _check_editable(name: str, parameter: nn.Parameter) -> None:
    """Refuse weights that are quantized, sharded or not loaded."""
    if parameter.is_meta:
        raise MaskError(
            f"The weights `{name}` must be loaded to be pruned, but they are on the meta device (offloaded). Load the model "
            "without offload."
        )
    if parameter.dtype not in EDITABLE or type(parameter) is not nn.Parameter or type(parameter.data) is not Tensor:
        raise MaskError(
            f"The weights `{name}` must be whole and in floating point to be pruned, but they are {parameter.dtype} in a "
            f"{type(parameter).__name__}: quantized or sharded. Sweep the full-precision checkpoint."
        )
