"""Compares a module with what was read of it, on a batch of random points.

A graph is recorded on one point. What a module does with the others of a batch, or by its Python code, is not in it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.translation.three_layers.homogeneous import mix
from hf_untangle.translation.three_layers.network import ReluNetwork, propagate

POINTS = 16
"""How many points are tried at each distance from the origin."""

MIXES = (
    "must treat each point of a batch on its own, but its output at one point depends on the others. Pass a part of it that "
    "does, or replace statistics of the batch by fixed ones."
)

Run = Callable[[Tensor], Tensor]


@torch.no_grad()
def check_reading(module: nn.Module, network: ReluNetwork) -> None:
    """Compare outputs on random points: as far from the origin as 1, and as the boundaries of the first layer.

    Args:
        module: A module; it runs in float64 where it can, and in its own dtype otherwise.
        network: What was read of it.

    Raises:
        TranslationError: They differ by more than rounding, because points of a batch are mixed or otherwise.
    """
    generator = torch.Generator().manual_seed(0)
    for scale in {1.0, _distance_of_boundaries(network)}:
        points = scale * torch.randn(POINTS, *network.input_shape, dtype=torch.float64, generator=generator)
        run, tolerance = _runner(module, points)
        try:
            wanted = run(points)
        except Exception as error:  # whatever the module's own code raises
            raise TranslationError(
                f"{type(module).__name__} must take a batch of points, got {type(error).__name__} on one of {POINTS}: "
                f"{str(error).partition(chr(10))[0]}. Pass a part of it that does."
            ) from error
        found, size = _with_size(network, points)
        if wanted.shape != found.shape or _differ(wanted, found, tolerance * size):
            raise TranslationError(_difference(module, run, points, wanted, found, tolerance * size))


def _runner(module: nn.Module, points: Tensor) -> tuple[Run, float]:
    """How to run the module, in float64 if it can, and the share of a sum that its rounding may be."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    first = next((tensor for tensor in state.values() if tensor.is_floating_point()), torch.zeros(()))

    def exactly(x: Tensor) -> Tensor:
        return torch.func.functional_call(module, tensors, (x.to(first.device).clone(),)).cpu().double()

    def as_it_is(x: Tensor) -> Tensor:
        return module(x.to(first).clone()).cpu().double()

    try:
        exactly(points[:1])
    except Exception:  # a module may insist on its dtype, and a device may have no float64
        return as_it_is, float(torch.finfo(first.dtype).eps ** 0.5)
    return exactly, 1e-6


def _distance_of_boundaries(network: ReluNetwork) -> float:
    """How far from the origin half of the first neurons change sign, if any do elsewhere than there."""
    if not network.layers:
        return 1.0
    slopes, offsets = network.layers[0][0][:, :-1].norm(dim=1), network.layers[0][0][:, -1].abs()
    distances = (offsets / slopes)[(slopes > 0) & (offsets > 0)]
    distances = distances[distances.isfinite() & (distances > 0)]
    return float(distances.median()) if len(distances) else 1.0


def _with_size(network: ReluNetwork, points: Tensor) -> tuple[Float[Tensor, "point ..."], float]:
    """The outputs, and the largest sum of absolute values that one of them is made of."""
    values = [network.homogeneous(points)]

    def remember(_: int, z: Tensor) -> Tensor:
        values.append(z.relu())
        return values[-1]

    _, y = propagate(network, values[0], remember)
    sizes = mix({source: weight.abs() for source, weight in network.output.items()}, [value.abs() for value in values])
    return y.reshape(len(points), *network.output_shape), float(
        sizes[sizes.isfinite()].amax()
    ) if sizes.isfinite().any() else 0.0


def _differ(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ where both are numbers."""
    known = one.isfinite() & other.isfinite()
    return bool(((one - other).abs()[known] > tolerance).any())


def _difference(module: nn.Module, run: Run, points: Tensor, wanted: Tensor, found: Tensor, tolerance: float) -> str:
    """Say what was established: points that are mixed, or another function."""
    kind = type(module).__name__
    if _differ(run(points), wanted, tolerance):
        return f"{kind} gives other outputs each time that it runs on the same points. Make it deterministic."
    alone = torch.cat([run(point[None]) for point in points])
    if wanted.shape[:1] != points.shape[:1] or alone.shape != wanted.shape or _differ(alone, wanted, tolerance):
        return f"{kind} {MIXES}"
    worst = (wanted - found).abs().max().item()
    return (
        f"{kind} gives other outputs than the operations that were recorded of it, by up to {worst:.3g} on random points. "
        "Does its forward decide in Python what to do? Pass a part of it that does not."
    )
