"""Sums over tokens of what the neurons of one group do, and the accumulator that fills them."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

CPU_NUMBERS = 2**17
"""Activations that a CPU sums at a time, few enough to stay in its second-level cache: twice as fast as a whole batch."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over tokens for one neuron group; z is a neuron's activation at one token."""

    count: Int[Tensor, ""]
    """Number of tokens."""
    total: Float[Tensor, " neuron"]
    """Sum of z."""
    absolute: Float[Tensor, " neuron"]
    """Sum of |z|."""
    square: Float[Tensor, " neuron"]
    """Sum of z^2."""
    positive: Float[Tensor, " neuron"]
    """Number of tokens with z > 0."""
    root: Float[Tensor, " neuron"] | None = None
    """Sum of sqrt|z|; None when it was not asked for."""
    routed: Int[Tensor, " expert"] | None = None
    """Number of tokens that each expert saw, of all that are counted: its neurons are 0 at the others. None without experts."""

    def __add__(self, other: "Moments") -> "Moments":
        """Add the sums of two sets of tokens; a sum that one of them lacks is lacking in the result."""
        sums = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            sums[field.name] = None if mine is None or theirs is None else mine + theirs
        return Moments(**sums)

    @property
    def computed(self) -> Int[Tensor, "..."]:
        """Number of tokens at which each neuron was computed: all of them, or those that its expert saw."""
        if self.routed is None:
            return self.count
        return self.routed.repeat_interleave(len(self.total) // len(self.routed))

    def of_no_token(self, size: int) -> "Moments":
        """The moments of an expert that none of these tokens reached, whose neurons were 0 at all of them.

        Args:
            size: Number of its neurons.

        Returns:
            Sums of zeros, of the same kinds.
        """
        zeros = self.total.new_zeros(size)
        root = None if self.root is None else zeros
        return Moments(self.count, zeros, zeros, zeros, zeros, root, routed=torch.zeros(1, dtype=torch.long))

    def tensors(self) -> dict[str, Tensor]:
        """The sums that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def is_finite(self) -> bool:
        """Tell whether no activation was infinite or NaN."""
        return bool(torch.isfinite(self.square).all() and torch.isfinite(self.total).all())


class MomentAccumulator:
    """Adds batches of activations up on their own device.

    Partial sums are taken in float32, through one buffer that every power shares, and added to totals in float64.
    """

    def __init__(self, size: int, device: torch.device, *, roots: bool = False, experts: int | None = None) -> None:
        """Start from nothing.

        Args:
            size: Number of neurons.
            device: Where the activations will be.
            roots: Whether to sum sqrt|z| too.
            experts: How many experts the neurons belong to, expert by expert.
        """
        # Apple's devices have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(5 if roots else 4, size, dtype=dtype, device=device)
        self._seen = torch.zeros(experts or 1, dtype=torch.long, device=device)
        self._experts = experts
        self._roots = roots

    def update(self, activations: Float[Tensor, "token neuron"], neurons: slice = slice(None)) -> None:
        """Add the activations of a batch of tokens.

        Args:
            activations: One row a token, in any floating dtype.
            neurons: Which neurons they are: all, or those of one expert.
        """
        for some in pieces(activations):
            self._add(some.float(), self._sums[:, neurons])
        self._seen[(neurons.start or 0) * len(self._seen) // self._sums.shape[1]] += len(activations)

    def _add(self, z: Float[Tensor, "token neuron"], sums: Float[Tensor, "sum neuron"]) -> None:
        """Add up every power of some activations."""
        ones = z.new_ones(len(z))
        buffer = torch.empty_like(z)
        # A product with ones is the fastest sum over tokens on every device, and reads z where it lies.
        partial = [ones @ z]
        partial.append(ones @ torch.mul(z, z, out=buffer))
        partial.append(ones @ torch.gt(z, 0, out=buffer))
        partial.append(ones @ torch.abs(z, out=buffer))
        if self._roots:
            partial.append(ones @ buffer.sqrt_())
        sums += torch.stack(partial)

    @property
    def device(self) -> torch.device:
        """Where the sums are."""
        return self._sums.device

    def absorb(self, other: "MomentAccumulator") -> None:
        """Add the sums of other tokens of the same neurons.

        Args:
            other: The sums, on the same device.
        """
        self._sums += other._sums
        self._seen += other._seen

    def state(self) -> dict[str, Tensor]:
        """Copies of everything that is summed up, on the CPU."""
        return {"sums": self._sums.cpu().clone(), "seen": self._seen.cpu().clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over the sums of another accumulator, as they are.

        Args:
            state: What its `state` gave.
        """
        self._sums.copy_(state["sums"])
        self._seen.copy_(state["seen"])

    def result(self, tokens: int | None = None) -> Moments:
        """The sums so far, as a copy that later updates do not change.

        Args:
            tokens: How many tokens experts could have seen; without experts it is what was added up.

        Returns:
            The sums.
        """
        total, square, positive, absolute, *root = self._sums.double().cpu().clone()
        seen = self._seen.cpu().clone()
        count, routed = (seen[0], None) if self._experts is None else (torch.tensor(tokens), seen)
        return Moments(count, total, absolute, square, positive, *root or [None], routed=routed)


def pieces(activations: Float[Tensor, "token neuron"]) -> tuple[Float[Tensor, "some neuron"], ...]:
    """Cut activations into as many tokens as are best summed at a time.

    Args:
        activations: One row a token.

    Returns:
        On a CPU as many tokens a piece as its cache holds in float32, and all of them elsewhere.
    """
    tokens, neurons = activations.shape
    whole = activations.device.type != "cpu"
    return activations.split(max(1, tokens if whole else CPU_NUMBERS // max(1, neurons)))
