"""Reads a module as a network of ReLU neurons, or says which part of it is not piecewise linear."""

from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.fx.node import map_aggregate

from hf_untangle.errors import ConfigError, TranslationError
from hf_untangle.translation.shallow import graphs
from hf_untangle.translation.shallow.affine_forms import AffineForm, apply, forms_in, identity
from hf_untangle.translation.shallow.network import ReluNetwork, Weights
from hf_untangle.translation.shallow.piecewise_linear import PIECEWISE_LINEAR
from hf_untangle.translation.weights import checked_dtype

# Linear in all arguments together.
_SUMS = {"add", "sub", "rsub", "cat", "stack"}

# Affine in one argument while the others are constant.
_MAPS = {"linear", "conv1d", "conv2d", "conv3d", "batch_norm", "matmul", "mm", "bmm", "addmm"}
_SCALES = {"mul", "div", "neg", "pad", "constant_pad_nd", "feature_dropout"}
_MEANS = {"mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d"}
_ADAPTIVE_MEANS = {"adaptive_avg_pool1d", "adaptive_avg_pool2d"}
_COPIES = {"clone", "detach", "index_select", "flip", "roll"}
_AFFINE = _MAPS | _SCALES | _MEANS | _ADAPTIVE_MEANS | _COPIES | graphs.VIEWS


def read_network(module: nn.Module | ReluNetwork, input_shape: tuple[int, ...] | None = None) -> ReluNetwork:
    """Read a module as a network of ReLU neurons, in float64 on the CPU.

    Linear and convolutional layers, pooling, evaluation-mode BatchNorm, residual connections, reshaping and
    the operations of `PIECEWISE_LINEAR` can be read. Every other part is refused by name (TranslationError),
    and so are weights that are not finite numbers of one dtype. The module itself is not changed.

    Args:
        module: A module that maps one batched tensor to one batched tensor, or a network that has been read.
        input_shape: Shape of one input, without the batch; by default the width of its first linear layer.

    Returns:
        The same function. It differs from the module by the rounding of the module's own dtype.
    """
    if isinstance(module, ReluNetwork):
        return module
    dtype = checked_dtype(module)
    shape = _input_shape(module) if input_shape is None else tuple(input_shape)
    device = next((tensor.device for tensor in module.state_dict().values()), torch.device("cpu"))
    reading = _Reading(shape)
    output = reading.walk(graphs.exported(module, torch.zeros(1, *shape, dtype=dtype, device=device)))
    return ReluNetwork(
        input_shape=shape,
        output_shape=tuple(output.constant.shape[1:]),
        layers=tuple(reading.layers),
        names=tuple(reading.names),
        output=reading.weights(output),
    )


class _Reading:
    """Walks through the graph of one module and collects its layers of neurons."""

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.input = identity(0, (1, *input_shape), torch.float64)
        self.layers: list[Weights] = []
        self.names: list[str] = []
        self.values: dict[Node, Any] = {}

    def walk(self, program: torch.export.ExportedProgram) -> AffineForm:
        """Give every node its value, and return the last one."""
        constants = graphs.constants(program)
        for node in program.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = constants.get(node.name, self.input)
            elif node.op == "call_function":
                self.values[graphs.written(node)] = self.call(node)
        outputs: Any = map_aggregate(program.graph.output_node().args[0], self.value)
        if len(outputs) != 1 or not isinstance(outputs[0], AffineForm):
            raise TranslationError("The module must return one tensor that depends on its input.")
        return outputs[0]

    def value(self, argument: Any) -> Any:
        """Look up what an argument stands for; an in-place operation has changed the node it wrote to."""
        return self.values[graphs.written(argument)] if isinstance(argument, Node) else argument

    def call(self, node: Node) -> Any:
        """Run one operation on the values of its arguments."""
        args: Any = map_aggregate(node.args, self.value)
        kwargs: Any = map_aggregate(dict(node.kwargs), self.value)
        name, forms = graphs.operation(node), len(list(forms_in((args, kwargs))))
        if forms == 0:
            return graphs.function(node)(*args, **kwargs)
        if graphs.in_training(node):
            raise TranslationError(f"{graphs.module_of(node)} is in training mode. Call .eval() first.")
        if name in PIECEWISE_LINEAR:
            return PIECEWISE_LINEAR[name](lambda z: self.relu(z, node), *args, **kwargs)
        if _is_affine(name, args, kwargs, forms):
            return apply(graphs.function(node), *args, **kwargs)
        raise TranslationError(
            f"{graphs.module_of(node)} computes `{name}`, which cannot be read as piecewise linear, so the "
            "network has no exact linear regions. Translate the part before it or the part after it."
        )

    def relu(self, z: AffineForm, node: Node) -> AffineForm:
        """Add a layer of neurons with these pre-activations."""
        self.layers.append(self.weights(z))
        self.names.append(graphs.module_of(node))
        return identity(len(self.layers), tuple(z.constant.shape), z.constant.dtype)

    def weights(self, form: AffineForm) -> Weights:
        """Write a form as matrices, its constant as the weight of the 1 in (x, 1)."""
        matrices = {source: rows.reshape(len(rows), -1).T for source, rows in form.coefficients.items()}
        bias = form.constant.reshape(-1, 1)
        slopes = matrices.get(0, bias.new_zeros(len(bias), self.input.constant.numel()))
        return matrices | {0: torch.cat([slopes, bias], dim=1)}


def _is_affine(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], forms: int) -> bool:
    """Say whether an operation is affine in the forms among its arguments."""
    if name == "div":  # linear in its numerator, and only without rounding
        return forms == 1 and isinstance(args[0], AffineForm) and kwargs.get("rounding_mode") is None
    return name in _SUMS or (name in _AFFINE and forms == 1)


def _input_shape(module: nn.Module) -> tuple[int, ...]:
    """Take the width of a network that starts with a linear layer."""
    parts = (part for part in module.modules() if any(True for _ in part.parameters(recurse=False)))
    first = next(parts, None)
    if not isinstance(first, nn.Linear):
        raise ConfigError("The input shape cannot be read off this module. Pass input_shape, without the batch.")
    return (first.in_features,)
