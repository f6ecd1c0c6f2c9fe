"""Reads a module as a network of ReLU neurons, or says which part of it cannot be read."""

from typing import Any

import torch
from torch import nn
from torch.fx import Node
from torch.fx.node import map_aggregate

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError, TranslationError
from hf_untangle.translation.linear_weights import checked_dtype
from hf_untangle.translation.three_layers import graphs
from hf_untangle.translation.three_layers.affine_forms import AffineForm, apply, apply_each, forms_in, identity
from hf_untangle.translation.three_layers.affine_operations import CONVERSIONS, is_affine, reason_against
from hf_untangle.translation.three_layers.network import ReluNetwork, Weights
from hf_untangle.translation.three_layers.reading_check import MIXES, check_reading
from hf_untangle.translation.three_layers.relu_operations import PIECEWISE_LINEAR


@checked_arguments
def read_network(module: nn.Module | ReluNetwork, input_shape: tuple[int, ...] | None = None) -> ReluNetwork:
    """Read a module as a network of ReLU neurons, in float64 on the CPU.

    Linear and convolutional layers, pooling, evaluation-mode BatchNorm, residual connections, reshaping and
    the operations of `PIECEWISE_LINEAR` can be read. Every other part is refused by name (TranslationError),
    and so are weights that are not finite numbers of one dtype, and modules whose output at one point depends
    on the rest of the batch: what was read must give the module's own outputs on a batch of random points.
    The module itself is not changed.

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
    with torch.random.fork_rng(devices=[]):
        reading = _Reading(shape)
        output = reading.walk(graphs.exported(module, torch.zeros(1, *shape, dtype=dtype, device=device)))
        if output.constant.shape[:1] != (1,):
            raise TranslationError(f"{type(module).__name__} {MIXES}")
        network = ReluNetwork(
            input_shape=shape,
            output_shape=tuple(output.constant.shape[1:]),
            layers=tuple(reading.layers),
            names=tuple(reading.names),
            output=reading.weights(output),
        )
        check_reading(module, network)
    return network


POSITIONS = object()
"""Stands for what an operation returns besides numbers: the positions of the largest ones."""

REMEDY = " Translate the part before it or the part after it."


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
        if name.startswith("_assert"):
            return None
        if any(argument is POSITIONS for argument in args):
            raise TranslationError(f"{graphs.module_of(node)} uses the position of a maximum, which jumps.{REMEDY}")
        if forms == 0:
            return map_aggregate(graphs.function(node)(*args, **kwargs), graphs.in_float64)
        if name == "getitem":
            return args[0][args[1]] if args[1] < len(args[0]) else POSITIONS
        if graphs.uses_statistics_of_batch(node):
            raise TranslationError(f"{graphs.module_of(node)} {graphs.OF_THE_BATCH}")
        if graphs.in_training(node):
            raise TranslationError(f"{graphs.module_of(node)} is in training mode. Call .eval() first.")
        return self.form(node, name, args, kwargs)

    def form(self, node: Node, name: str, args: Any, kwargs: Any) -> Any:
        """Find the form of an operation on forms."""
        if name in CONVERSIONS and not any(isinstance(each, torch.dtype) and not each.is_floating_point for each in args):
            return args[0]
        if name in PIECEWISE_LINEAR:
            return PIECEWISE_LINEAR[name](lambda z: self.relu(z, node), *args, **kwargs)
        if not is_affine(name, args, kwargs, len(list(forms_in((args, kwargs))))):
            raise TranslationError(f"{graphs.module_of(node)} computes `{name}`, {reason_against(name)}.{REMEDY}")
        return (apply_each if name in graphs.SPLITS else apply)(graphs.function(node), *args, **kwargs)

    def relu(self, z: AffineForm, node: Node) -> AffineForm:
        """Add a layer of neurons with these pre-activations."""
        self.layers.append(self.weights(z))
        self.names.append(graphs.module_of(node))
        return identity(len(self.layers), tuple(z.constant.shape), z.constant.dtype)

    def weights(self, form: AffineForm) -> Weights:
        """Write a form as matrices, its constant as the weight of the 1 in (x, 1)."""
        matrices = {source: rows.flatten(1).T for source, rows in form.coefficients.items()}
        bias = form.constant.reshape(form.constant.numel(), 1)
        slopes = matrices.get(0, bias.new_zeros(len(bias), self.input.constant.numel()))
        return matrices | {0: torch.cat([slopes, bias], dim=1)}


def _input_shape(module: nn.Module) -> tuple[int, ...]:
    """Take the width of a network that starts with a linear layer."""
    parts = (part for part in module.modules() if any(True for _ in part.parameters(recurse=False)))
    first = next(parts, None)
    if not isinstance(first, nn.Linear):
        raise ConfigError("The input shape cannot be read off this module. Pass input_shape, without the batch.")
    return (first.in_features,)
