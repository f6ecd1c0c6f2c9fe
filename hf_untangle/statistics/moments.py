"""Sums over tokens of what the neurons of one group do, and the accumulator that fills them.

Squares are summed around a value near the mean of each batch, and batches are merged by the update of Chan, Golub and LeVeque
(1979). So a standard deviation keeps its digits where the mean is many times larger.
"""

from dataclasses import dataclass, fields
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.statistics.fused_sums import fused_sums_

CPU_NUMBERS = 2**17
"""Activations that a CPU sums at a time, few enough to stay in its second-level cache: twice as fast as a whole batch."""

SHIFT_TOKENS = 64
"""About how many tokens of a batch are averaged for the value that squares are summed around."""

TOTAL, SPREAD = 0, 1
"""The rows of an accumulator that hold the sums of z and of (z - mean z)^2."""


@partial(checked_calls, nan=True)
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
    spread: Float[Tensor, " neuron"] | None = None
    """Sum of (z - mean z)^2 over the tokens at which the neuron was computed; None in files of before it was stored."""
    __repr__ = fields_repr

    def __add__(self, other: "Moments") -> "Moments":
        """Merge the sums of two sets of tokens; roots that one of them lacks are lacking in the result."""
        sums = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            sums[field.name] = None if mine is None or theirs is None else mine + theirs
        if self.spread is not None or other.spread is not None:
            apart = _between(self.total, self.computed.double(), other.total, other.computed.double())
            sums["spread"] = self.squared_deviations + other.squared_deviations + apart
        return Moments(**sums)

    @property
    def computed(self) -> Int[Tensor, "..."]:
        """Number of tokens at which each neuron was computed: all of them, or those that its expert saw."""
        if self.routed is None:
            return self.count
        return self.routed.repeat_interleave(len(self.total) // len(self.routed))

    @property
    def squared_deviations(self) -> Float[Tensor, " neuron"]:
        """Sum of (z - mean z)^2 over the tokens at which each neuron was computed.

        Without a stored `spread` it is what the sums of z and z^2 leave of it, which is rounding where |mean| is thousands of
        times the standard deviation.
        """
        if self.spread is not None:
            return self.spread
        return (self.square - self.total.square() / self.computed.clamp_min(1)).clamp_min(0)

    @property
    def variance(self) -> Float[Tensor, " neuron"]:
        """Mean of (z - mean z)^2 over all tokens, at which the neurons of an expert that did not see them are 0."""
        computed, count = self.computed.double(), self.count.double()
        of_zeros = self.total.square() / computed.clamp_min(1) * ((count - computed) / count)
        return (self.squared_deviations + of_zeros) / count

    def of_no_token(self, size: int) -> "Moments":
        """The moments of an expert that these tokens did not reach, whose neurons were 0 at all of them.

        Args:
            size: Number of its neurons.

        Returns:
            Sums of zeros, of the same kinds.
        """
        zeros = self.total.new_zeros(size)
        root = None if self.root is None else zeros
        return Moments(self.count, zeros, zeros, zeros, zeros, root, routed=torch.zeros(1, dtype=torch.long), spread=zeros)

    def tensors(self) -> dict[str, Tensor]:
        """The sums that are there, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def is_finite(self) -> bool:
        """Tell whether no activation was infinite or NaN."""
        return bool(torch.isfinite(self.square).all() and torch.isfinite(self.total).all())


class MomentAccumulator:
    """Adds batches of activations up on their own device.

    Partial sums are taken in float32 (of float64 activations in float64), through one buffer that every power shares, and added
    to totals in float64. On a CPU the default ones are taken by compiled code where there can be some (`fused_sums.py`).
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
        self._sums = torch.zeros(6 if roots else 5, size, dtype=dtype, device=device)
        self._seen = torch.zeros(experts or 1, dtype=torch.long)
        self._experts = experts
        self._roots = roots

    def update(self, activations: Float[Tensor, "token neuron"], neurons: slice = slice(None)) -> None:
        """Add the activations of a batch of tokens.

        Args:
            activations: One row per token, in any floating dtype.
            neurons: Which neurons they are: all, or those of one expert.
        """
        tokens = len(activations)
        if not tokens:
            return
        sums, seen = self._sums[:, neurons], self._seen[(neurons.start or 0) * len(self._seen) // max(1, self._sums.shape[1])]
        partial = sums.new_zeros(len(sums) - 1, sums.shape[1])
        shift = _shift(activations)
        if not fused_sums_(partial, activations, shift):
            for some in pieces(activations):
                self._add(some.to(shift.dtype), shift, partial)
        batch = _unshifted(partial, shift.to(sums.dtype), tokens)
        batch[SPREAD] += _between(sums[TOTAL], seen.to(sums.dtype), batch[TOTAL], torch.tensor(tokens, dtype=sums.dtype))
        sums += batch
        seen += tokens

    def _add(
        self, z: Float[Tensor, "token neuron"], shift: Float[Tensor, " neuron"], partial: Float[Tensor, "sum neuron"]
    ) -> None:
        """Add up every power of some activations."""
        ones = z.new_ones(len(z))
        # A product with ones is the fastest sum over tokens on every device, and what is done in place stays in the cache.
        buffer = torch.sub(z, shift)
        sums = [ones @ buffer]
        sums.append(ones @ buffer.mul_(buffer))
        sums.append(ones @ torch.clamp_min(z, 0, out=buffer))
        sums.append(ones @ buffer.sign_())
        if self._roots:
            sums.append(ones @ torch.abs(z, out=buffer).sqrt_())
        partial += torch.stack(sums)

    @property
    def device(self) -> torch.device:
        """Where the sums are."""
        return self._sums.device

    def absorb(self, other: "MomentAccumulator") -> None:
        """Add the sums of other tokens of the same neurons.

        Args:
            other: The sums, on the same device.
        """
        apart = _between(self._sums[TOTAL], self._computed(), other._sums[TOTAL], other._computed())
        self._sums += other._sums
        self._sums[SPREAD] += apart
        self._seen += other._seen

    def _computed(self) -> Float[Tensor, "..."]:
        """Number of tokens at which the neurons were computed, one for all of them or one each."""
        if self._experts is None:
            return self._seen[0].to(self._sums.dtype)
        return self._seen.repeat_interleave(self._sums.shape[1] // self._experts).to(self._sums)

    def state(self) -> dict[str, Tensor]:
        """Copies of everything that is summed up, on the CPU."""
        return {"sums": self._sums.cpu().clone(), "seen": self._seen.clone()}

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
        total, spread, absolute, positive, square, *root = self._sums.double().cpu().clone()
        seen = self._seen.clone()
        count, routed = (seen[0], None) if self._experts is None else (torch.tensor(tokens), seen)
        return Moments(count, total, absolute, square, positive, *root or [None], routed=routed, spread=spread)


def pieces(activations: Float[Tensor, "token neuron"]) -> tuple[Float[Tensor, "_ neuron"], ...]:
    """Cut activations into as many tokens as are best summed at a time.

    Args:
        activations: One row per token.

    Returns:
        On a CPU as many tokens per piece as its cache holds in float32, and all of them elsewhere.
    """
    tokens, neurons = activations.shape
    whole = activations.device.type != "cpu"
    return activations.split(max(1, tokens if whole else CPU_NUMBERS // max(1, neurons)))


def _shift(activations: Float[Tensor, "token neuron"]) -> Float[Tensor, " neuron"]:
    """A value near the mean of every neuron: the mean over some tokens of the batch.

    Over k of n tokens it is at most sqrt(n / k) standard deviations off, so squares around it cancel in no more than n / k.
    """
    some = activations[:: max(1, len(activations) // SHIFT_TOKENS)]
    return some.to(torch.promote_types(activations.dtype, torch.float32)).mean(0)


def _unshifted(
    partial: Float[Tensor, "partial neuron"], shift: Float[Tensor, " neuron"], tokens: int
) -> Float[Tensor, "sum neuron"]:
    """The sums of a batch, of those of z - shift, (z - shift)^2, max(z, 0), z > 0 and sqrt|z|."""
    first, second, above, positive, *root = partial
    total = torch.add(first, shift, alpha=tokens)
    spread = torch.addcmul(second, first, first, value=-1 / tokens).clamp_min_(0)
    square = torch.addcmul(second, shift, first + total)
    return torch.stack([total, spread, torch.add(-total, above, alpha=2), positive, square, *root])


def _between(total: Tensor, count: Tensor, other_total: Tensor, other_count: Tensor) -> Float[Tensor, " neuron"]:
    """What the distance of two means adds to the spread of both sets: its square, times n m / (n + m)."""
    distance = other_total / other_count.clamp_min(1) - total / count.clamp_min(1)
    return distance.square() * (count * (other_count / (count + other_count).clamp_min(1)))
