"""The operations that a module runs on one input, as PyTorch records them, and how to speak of them."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.fx import Node
from torch.nn.modules.batchnorm import _BatchNorm

from hf_untangle.errors import ConfigError, TranslationError

VIEWS = {"view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "unsqueeze", "squeeze"} | {
    *("view_as", "reshape_as", "ravel", "movedim", "moveaxis", "swapaxes", "swapdims", "numpy_T", "mT", "diagonal"),
    *("expand", "expand_as", "broadcast_to", "select", "narrow", "slice", "contiguous", "alias"),
    *("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"),
}
"""Operations whose result shares the memory of their input, or may."""

SPLITS = {"chunk", "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind"}
"""Views that come several at a time."""

OF_THE_BATCH = (
    "has no running statistics, so in evaluation mode too it normalizes by those of the batch, and its output at one point "
    "depends on the others. Train it with track_running_stats=True, or translate a part without it."
)


def exported(module: nn.Module, example: Float[Tensor, "1 ..."]) -> torch.export.ExportedProgram:
    """Record what a module does to one input.

    Args:
        module: The module.
        example: An input of the right shape and dtype.

    Returns:
        The recorded graph.

    Raises:
        ConfigError: The module cannot run on the input, or decides by its values what to do.
        TranslationError: A BatchNorm is in training mode, or has statistics of the batch alone.
    """
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            raise TranslationError(f"`{name}` ({type(part).__name__}) {OF_THE_BATCH}")
        if isinstance(part, _BatchNorm) and part.training:
            raise TranslationError(f"`{name}` ({type(part).__name__}) is in training mode. Call .eval() first.")
    try:
        return torch.export.export(module, (example,))
    except Exception as error:  # whatever the module's own code raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"{type(module).__name__} cannot be traced on an input of shape {tuple(example.shape[1:])} "
            f"({reason}). Pass its input_shape, and only a part without data-dependent branches."
        ) from error


def constants(program: torch.export.ExportedProgram) -> Mapping[str, Tensor]:
    """Find parameters, buffers and other constants.

    Args:
        program: A recorded graph.

    Returns:
        The tensors by the name of their node, on the CPU and, if floating, in float64.
    """
    stored: dict[str | None, Any] = {**program.state_dict, **program.constants}
    specs = program.graph_signature.input_specs
    constant = [spec for spec in specs if spec.kind != InputKind.USER_INPUT]
    tensors = {spec.arg.name: stored[spec.target].detach() for spec in constant}
    return {name: in_float64(tensor) for name, tensor in tensors.items()}


def in_float64(constant: Any) -> Any:
    """Bring a constant to where networks are read.

    Args:
        constant: Anything.

    Returns:
        A tensor on the CPU, in float64 if it is floating; anything else as it is.
    """
    if not isinstance(constant, Tensor):
        return constant
    return constant.cpu().double() if constant.is_floating_point() else constant.cpu()


def operation(node: Node) -> str:
    """Name the operation of a node, without the underscore of its in-place form.

    Args:
        node: A node of a recorded graph.

    Returns:
        For instance `relu`.
    """
    return _full_name(node).removesuffix("_")


def function(node: Node) -> Callable[..., Any]:
    """Find what a node calls, in the form that leaves its arguments alone.

    Args:
        node: A node of a recorded graph.

    Returns:
        The function.
    """
    in_place = _full_name(node) != operation(node)
    return getattr(torch.ops.aten, operation(node)) if in_place else cast(Callable[..., Any], node.target)


def written(node: Node) -> Node:
    """Find the node whose tensor an in-place operation writes to.

    Args:
        node: A node of a recorded graph.

    Returns:
        The node that made the tensor; a node that works out of place made its own.

    Raises:
        TranslationError: That tensor shares its memory with another, which the graph does not show.
    """
    origin = node
    while _full_name(origin).endswith("_"):
        origin = origin.all_input_nodes[0]
    if origin is not node and any(operation(other) in VIEWS | SPLITS | {"getitem"} for other in (origin, *origin.users)):
        raise TranslationError(
            f"{module_of(node)} works in place on a tensor that shares its memory with another, which cannot "
            "be followed. Write it out of place."
        )
    return origin


def module_of(node: Node) -> str:
    """Name the module that an operation belongs to, as people see it.

    Args:
        node: A node of a recorded graph.

    Returns:
        For instance "`layers.2` (GELU)".
    """
    path, kind = [("", "the module"), *node.meta.get("nn_module_stack", {}).values()][-1]
    kind = str(kind).rpartition(".")[2].removesuffix("'>")
    return f"`{path}` ({kind})" if path else kind


def in_training(node: Node) -> bool:
    """Say whether an operation such as dropout was recorded in training mode.

    Args:
        node: A node of a recorded graph.

    Returns:
        True if one of its arguments says so.
    """
    given = arguments(node)
    return any(given.get(name) is True for name in ("train", "training"))


def uses_statistics_of_batch(node: Node) -> bool:
    """Say whether a BatchNorm has no other statistics than those of its input.

    Args:
        node: A node of a recorded graph.

    Returns:
        True if it was given no running statistics.
    """
    return operation(node) == "batch_norm" and arguments(node).get("running_mean") is None


def arguments(node: Node) -> dict[str, Any]:
    """Name what an operation is called with.

    Args:
        node: A node of a recorded graph.

    Returns:
        Its arguments by the names of PyTorch's schema.
    """
    schema = getattr(node.target, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema else []
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _full_name(node: Node) -> str:
    """Name an operation as PyTorch does."""
    return getattr(node.target, "_opname", None) or getattr(node.target, "__name__", str(node.target))
