"""How far to dampen a neuron instead of removing it: selective synaptic dampening, neuron by neuron.

SSD (Foster et al. 2023, arXiv:2308.07707) scales single parameters by the Fisher information of both corpora. Here a neuron is
scaled as a whole, by the Fisher information of a gate at it (the importance `fisher`), and the retain corpus stands for the
whole training set.
"""

import torch

from hf_untangle.errors import ConfigError
from hf_untangle.importance.observations import Neurons


def damping(forget: Neurons, retain: Neurons, *, alpha: float = 10.0, strength: float = 1.0) -> Neurons:
    """Find the factor that each neuron is scaled by.

    min(strength * retain / forget, 1) where forget > alpha * retain, and 1 elsewhere.

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
