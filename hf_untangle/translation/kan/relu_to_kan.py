"""A network of linear layers and piecewise linear activations, read as a KAN in three equivalent ways.

Take two linear layers with a ReLU between them. One unit of it is  z = w x + b,  a = relu(z),  y = v a:

    fused         edges  w x,  then  v relu(z)         knots at 0, biases on nodes; no computation changes
    shifted       edges  w x,  then  v relu(z + b)     knots at -b: each threshold is where its edge bends
    alternating   edges  w x,  then  relu(z),  then  v a     one KAN layer for every layer of the network
"""

import copy
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError, TranslationError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer, KANLayer, with_knots
from hf_untangle.translation.kan.elementwise import piecewise_linear_form
from hf_untangle.translation.kan.leaf_calls import LeafCall, trace_calls
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.linear_weights import checked_dtype
from hf_untangle.translation.same_function import check_same_function

Form = Literal["fused", "shifted", "alternating"]


@checked_arguments
def relu_to_kan(network: nn.Module, form: Form = "fused") -> nn.Sequential:
    """Translate a network to a KAN that computes the same function.

    A network that is no chain of such layers is refused by name, with a TranslationError; the KAN is compared with
    the network on random points before it is returned.

    Args:
        network: A stack of Linear layers and piecewise linear activations (ReLU, leaky ReLU, hard tanh, ...),
            as a Sequential or as a module whose forward only chains them. Dropout counts as absent, as in
            evaluation.
        form: "fused" keeps the widths, shares the Parameters, and keeps every bit of the outputs.
            "alternating" makes activations layers of their own, with one edge a node, and shares the
            Parameters too. "shifted" turns the biases of inner layers into knots, so it has Parameters of its
            own. Both compute the same up to rounding.

    Returns:
        The KAN: a layer for each Linear layer, or, when alternating, for each activation too.

    Raises:
        ConfigError: If the form is unknown.
    """
    if form not in FORMS:
        raise ConfigError(f"The form of a KAN is one of {', '.join(FORMS)}; got {form!r}.")
    kan = nn.Sequential(*FORMS[form](chain := read_chain(network)))
    with evaluation_mode(network):
        check_same_function(network, kan, chain[0].input)
    return kan


@torch.no_grad()
def read_chain(network: nn.Module) -> list[LeafCall]:
    """List the layers of a network in the order in which they run, and prove that this is all it does.

    The network runs once on random inputs with a hook on every part; then the parts run one after the other,
    and must give the same bits.

    Args:
        network: A module that should be a chain of Linear layers and piecewise linear activations.

    Returns:
        One call of every Linear layer and activation, first to last.

    Raises:
        TranslationError: If it is no such chain.
    """
    linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise TranslationError(f"There is no Linear layer in this {type(network).__name__}, so no KAN to read.")
    probe = torch.randn(8, linears[0].in_features, generator=torch.Generator().manual_seed(0))
    probe = probe.to(linears[0].weight.device, checked_dtype(network))
    calls, output = _run(network, probe)
    calls = [call for call in calls if not isinstance(call.module, nn.Dropout | nn.Identity)]
    for call in calls:
        if type(call.module) is not nn.Linear:
            piecewise_linear_form(call.module)
    if not _is_chain(calls, probe, output):
        parts = ", ".join(type(call.module).__name__ for call in calls)
        raise TranslationError(
            f"{type(network).__name__} gives other outputs than {parts} one after the other, so it is no chain of "
            "them. Pass a part of it that is."
        )
    return calls


def _run(network: nn.Module, probe: Tensor) -> tuple[list[LeafCall], object]:
    """Run a network, and record its parts and outputs."""
    try:
        return trace_calls(network, lambda: network(probe.clone()))
    except (RuntimeError, TypeError, ValueError) as reason:
        kind, width = type(network).__name__, probe.shape[-1]
        raise TranslationError(f"{kind} cannot run on a batch of {width} numbers: {reason}") from reason


def _is_chain(calls: list[LeafCall], probe: Tensor, output: object) -> bool:
    """Whether the parts that ran give the same bits when they run one after the other."""
    chain = nn.Sequential(*(call.module for call in calls))
    return isinstance(output, Tensor) and torch.equal(chain(probe.clone()), output)


def _fused(chain: list[LeafCall]) -> list[ActivationKANLayer]:
    """Every Linear takes the activation in front of it; an activation before no Linear stands alone."""
    layers = []
    activation: nn.Module = nn.Identity()
    for call, behind in zip(chain, [*chain[1:], None], strict=True):
        if isinstance(call.module, nn.Linear):
            layers.append(ActivationKANLayer(call.module, activation))
            activation = nn.Identity()
        elif behind and isinstance(behind.module, nn.Linear):
            activation = call.module
        else:
            layers.append(_straight(call))
    return layers


def _shifted(chain: list[LeafCall]) -> list[KANLayer]:
    """The fused form, with the bias of every layer but the last moved into the knots of the next."""
    first, *others = copy.deepcopy(_fused(chain))
    layers: list[KANLayer] = [first]
    for layer in map(with_knots, others):
        layers.append(_with_moved_knots(layer, by=layers[-1].bias))
        layers[-2].register_parameter("bias", None)
    return layers


def _alternating(chain: list[LeafCall]) -> list[ActivationKANLayer]:
    """Every Linear is a layer of straight lines, and every activation a layer of its own."""
    return [
        ActivationKANLayer(call.module, nn.Identity()) if isinstance(call.module, nn.Linear) else _straight(call)
        for call in chain
    ]


FORMS: dict[str, Callable[[list[LeafCall]], Sequence[KANLayer]]] = {
    "fused": _fused,
    "shifted": _shifted,
    "alternating": _alternating,
}
"""How each form is made of the layers of a network."""


def _straight(call: LeafCall) -> ActivationKANLayer:
    """A layer for an activation, with edges that only go straight ahead: y_i = activation(x_i)."""
    width, out = call.output.shape[-1], call.output
    straight = nn.Linear(width, width, bias=False, device=out.device, dtype=out.dtype)
    nn.init.eye_(straight.weight)
    return ActivationKANLayer(straight, call.module)


def _with_moved_knots(layer: PiecewiseLinearKANLayer, by: Tensor | None) -> PiecewiseLinearKANLayer:
    """The layer that computes layer(x + by)."""
    knots = layer.knots if by is None else layer.knots - by.unsqueeze(-1)
    return PiecewiseLinearKANLayer(knots, layer.values, layer.left_slopes, layer.right_slopes, layer.bias)
