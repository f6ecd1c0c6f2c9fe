"""Which projections are output projections, and what their neurons are computed from: read off the gradients of one pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hf_untangle.architecture.config_hints import stated_width
from hf_untangle.architecture.trace import Call, Trace

NEUTRAL = 0.5
"""What projections write, where no common activation function is flat."""
NORMS = ("RMSNorm", "LayerNorm", "GatedNorm", "GroupNorm")
"""How the names of classes of norms end."""
NEGLIGIBLE = 1e-3
"""Gradients below this share of the largest are rounding, such as those of equal queries and keys."""


@dataclass(frozen=True, eq=False)
class Ancestor:
    """A projection that some neurons are computed from directly; gradients are those of a weighted sum of the neurons."""

    name: str
    output: Float[Tensor, "..."]
    """What it wrote, a leaf of the graph."""
    here: Float[Tensor, " row"]
    """Gradient at the last position, where the neurons are."""
    elsewhere: Float[Tensor, " row"]
    """Sum of the gradients at all other positions."""


@dataclass(frozen=True, eq=False)
class Lineage:
    """What the neurons of a projection are computed from."""

    call: Call
    ancestors: tuple[Ancestor, ...]
    is_open: bool
    """Whether they are no neurons: computed from the input of a block too, or what another projection wrote, unchanged."""

    @property
    def largest(self) -> float:
        """The largest gradient of all."""
        return max(float(torch.maximum(one.here.abs(), one.elsewhere.abs()).max()) for one in self.ancestors)

    def values(self, ancestor: Ancestor) -> Bool[Tensor, " row"]:
        """Tell which rows of an ancestor reach the neurons from other positions, as values do in attention.

        Args:
            ancestor: One of `ancestors`.

        Returns:
            One truth value per row.
        """
        return ancestor.elsewhere.abs() > NEGLIGIBLE * self.largest

    @property
    def averaged(self) -> list[Ancestor]:
        """The ancestors that have value rows, the last to run first."""
        return [one for one in reversed(self.ancestors) if self.values(one).any()]

    @property
    def averages_evenly(self) -> bool:
        """Whether equal inputs give equal neurons at all positions, as averages do, and other ways of mixing do not."""
        first, last = (self.call.neurons_at(position).detach().float() for position in (0, -1))
        return bool(last.any()) and torch.allclose(first, last, rtol=1e-2)

    @property
    def attends(self) -> bool:
        """Whether a softmax lies between the ancestors and the neurons."""
        waiting, seen = [self.call.neurons.grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            if any(name in node.name() for name in ("Softmax", "ScaledDotProduct")):
                return True
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
        return False

    def reads(self, name: str, rows: Int[Tensor, " row"]) -> bool:
        """Tell whether any of some rows reaches the neurons.

        Args:
            name: The projection whose rows they are.
            rows: Row numbers.

        Returns:
            True when one of them does.
        """
        ancestor = next((one for one in self.ancestors if one.name == name), None)
        return ancestor is not None and bool((ancestor.here.abs() + ancestor.elsewhere.abs())[rows].any())


def lineages(record: Trace) -> list[Lineage]:
    """Find what every projection reads, in a pass in which every projection wrote NEUTRAL.

    Args:
        record: What happened in the pass.

    Returns:
        One lineage a projection, and one without ancestors for the experts of a layer, in the order in which they ran.
    """
    return [_lineage(call, record.calls[:index]) for index, call in enumerate(record.calls)]


def output_projections(model: nn.Module, found: Sequence[Lineage]) -> list[Lineage]:
    """Pick the output projections.

    A projection inside a block is an output projection exactly when it writes the width of the residual stream, reads only
    what other projections computed, never the residual stream itself, and no other output projection reads what it writes.

    Args:
        model: The model.
        found: The lineages of all its projections.

    Returns:
        Those of the output projections and experts, in the order in which they ran.
    """
    closed = [one for one in found if one.call.output is None or (one.ancestors and not one.is_open and _adds(model, one.call))]
    inner = {ancestor.name for one in closed for ancestor in one.ancestors}
    return [one for one in closed if one.call.name not in inner]


def _adds(model: nn.Module, call: Call) -> bool:
    """Tell whether what a projection writes can be added to the residual stream: it is as wide, and does not scale it."""
    residual, output = call.block.residual, call.output
    if residual is None or output is None or _is_in_norm(model, call):
        return False
    width = residual.shape[-1]
    # Hyper-connections carry several streams side by side, and a projection writes one.
    stated = stated_width(model, call.block.name)
    streams = stated is not None and stated < width and width % stated == 0
    return output.shape[-1] == (stated if streams else width)


def _is_in_norm(model: nn.Module, call: Call) -> bool:
    """Tell whether a projection is part of a norm, which scales the residual stream and adds nothing to it."""
    path = call.name
    while path != call.block.name:
        if type(model.get_submodule(path)).__name__.endswith(NORMS):
            return True
        path = path.rpartition(".")[0]
    return False


def _lineage(call: Call, earlier: Sequence[Call]) -> Lineage:
    """Find what one projection reads."""
    residual = call.block.residual
    if call.output is None or residual is None or not call.neurons.requires_grad:
        return Lineage(call, (), is_open=True)
    neurons = call.neurons_at(-1)[0]
    # Different weights, as those of a norm's outputs cancel in a plain sum.
    weights = 1 + torch.rand(len(neurons), generator=torch.Generator().manual_seed(0))
    leaves = [(one.name, one.output) for one in earlier if one.output is not None and one.output.requires_grad]
    # What an encoder hands to a decoder is the residual stream of another block.
    blocks = {one.block for one in (*earlier, call)}
    residuals = [block.residual for block in blocks if block.residual is not None and block.residual.requires_grad]
    found = gradients_of(neurons, weights, [*residuals, *(output for _, output in leaves)])
    on_residuals, gradients = found[: len(residuals)], found[len(residuals) :]
    ancestors = (
        _ancestor(name, output, gradient)
        for (name, output), gradient in zip(leaves, gradients, strict=True)
        if gradient is not None
    )
    unchanged = any(one.written is not None and one.written.data_ptr() == call.neurons.data_ptr() for one in earlier)
    return Lineage(call, tuple(ancestors), unchanged or any(one is not None for one in on_residuals))


def _ancestor(name: str, output: Tensor, gradient: Tensor) -> Ancestor:
    """Keep what matters of a gradient."""
    positions = gradient.reshape(-1, gradient.shape[-1]).float().cpu()
    return Ancestor(name, output, positions[-1], positions[:-1].sum(0))


def gradients_of(
    neurons: Float[Tensor, " neuron"], weights: Float[Tensor, " neuron"], leaves: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of a weighted sum of neurons.

    Args:
        neurons: The neurons.
        weights: One number per neuron.
        leaves: Leaves of the graph.

    Returns:
        One gradient per leaf; None where the neurons do not depend on it.
    """
    return list(torch.autograd.grad(neurons @ weights.to(neurons), leaves, retain_graph=True, allow_unused=True))
