"""Importance: one number per neuron, from one corpus and the weights. Every importance by name, and what each needs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError
from hf_untangle.importance import criteria
from hf_untangle.importance.brain_surgeon import brain_surgeon
from hf_untangle.importance.observations import Need, Neurons, Observations


@dataclass(frozen=True)
class Importance:
    """A function of what was observed, and what has to be observed for it."""

    function: Callable[[Observations], Neurons]
    needs: frozenset[Need]

    def __call__(self, seen: Observations) -> Neurons:
        """The importance of every neuron of a group.

        Args:
            seen: What is known of them.

        Returns:
            One number per neuron.
        """
        return self.function(seen)


def _of(function: Callable[[Observations], Neurons], *needs: Need) -> Importance:
    """An importance with its needs."""
    return Importance(function, frozenset(needs))


IMPORTANCE: dict[str, Importance] = {
    "abs": _of(criteria.mean_absolute, "activations"),
    "rms": _of(criteria.root_mean_square, "activations"),
    "std": _of(criteria.standard_deviation, "activations"),
    "freq": _of(criteria.frequency, "activations"),
    "sqrt": _of(criteria.mean_root, "activations", "roots"),
    "mean": _of(criteria.mean, "activations"),
    "entropy": _of(criteria.bit_entropy, "activations"),
    "wanda": _of(criteria.contribution, "activations", "weights"),
    "fluctuation": _of(criteria.fluctuation, "activations", "weights"),
    "taylor": _of(criteria.taylor, "gradients"),
    "signed-taylor": _of(criteria.signed_taylor, "gradients"),
    "second-order": _of(criteria.second_order, "gradients"),
    "snip": _of(criteria.connection_sensitivity, "gradients"),
    "fisher": _of(criteria.fisher, "gradients"),
    "magnitude": _of(criteria.magnitude, "weights"),
    "obs": _of(brain_surgeon, "second moments"),
    "random": _of(criteria.random, "activations"),
}
"""Every importance by name. Names may be joined by `+`: their scores are then fused by rank."""


def parts(names: str) -> list[str]:
    """Take joined names apart.

    Args:
        names: A key of `IMPORTANCE`, or several joined by `+`, such as `rms+taylor`.

    Returns:
        The keys.
    """
    return [name.strip() for name in names.split("+")]


def needs_of(names: str) -> frozenset[Need]:
    """Tell what has to be observed.

    Args:
        names: A key of `IMPORTANCE`, or several joined by `+`.

    Returns:
        The needs of all of them together.
    """
    return frozenset().union(*(IMPORTANCE[name].needs for name in parts(names)))


@checked_arguments
def damping(forget: Neurons, retain: Neurons, *, alpha: float = 10.0, strength: float = 1.0) -> Neurons:
    """Find the factor that each neuron is scaled by, instead of removing it: selective synaptic dampening, neuron by neuron.

    SSD (Foster et al. 2023, arXiv:2308.07707) scales single parameters by the Fisher information of both corpora. Here a neuron
    is scaled as a whole, by the Fisher information of a gate at it (the importance `fisher`), and the retain corpus stands for
    the whole training set.

    The factor is min(strength * retain / forget, 1) where forget > alpha * retain, and 1 elsewhere.

    Args:
        forget: Fisher information of each neuron on the forget corpus, at least 0.
        retain: The same on the retain corpus.
        alpha: How many times per neuron must matter more to forget than to retain to be touched at all.
        strength: The factor of the ratio; below 1 it dampens more.

    Returns:
        Factors from 0, silent, to 1, as it was.

    Raises:
        ConfigError: alpha or strength is negative.
    """
    if alpha < 0 or strength < 0:
        raise ConfigError(f"alpha and strength must be at least 0, got alpha={alpha} and strength={strength}.")
    factors = (strength * retain / forget).clamp(max=1)
    return torch.where(forget > alpha * retain, factors, 1.0)
