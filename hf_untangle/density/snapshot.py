"""Looking at a network in the middle of its training, without the training noticing."""

from torch import nn

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.density.activity import activity
from hf_untangle.density.measure import Evaluate, Measure
from hf_untangle.density.sweep import sweep
from hf_untangle.density.sweep_config import SweepConfig
from hf_untangle.randomness import random_state_kept


def snapshot(model: nn.Module, evaluate: Evaluate | Measure, config: SweepConfig) -> dict[str, float]:
    """Measure how much of a network can go now, and how much of it is in use.

    Weights, modes, gradients and random states are as before afterwards.

    Args:
        model: The network.
        evaluate: What judges it; what it runs is also what neurons are watched on.
        config: Settings of the sweep.

    Returns:
        Numbers by name, for a log: `density/prunable_share`, `density/metric`, `density/dead_neurons`,
        `density/activation_sparsity` and `density/effective_rank`.
    """
    run = evaluate.evaluate if isinstance(evaluate, Measure) else evaluate
    with random_state_kept(), evaluation_mode(model):
        found = sweep(model, evaluate, config=config, progress=False)
        seen = activity(model, run)
    return {
        "density/prunable_share": found.first,
        "density/metric": found.base,
        "density/dead_neurons": seen.dead,
        "density/activation_sparsity": seen.sparsity,
        "density/effective_rank": seen.effective_rank,
    }
