"""Exact compression: neurons that are 0 wherever data goes can be removed without any change there.

After a ReLU that is a neuron which is never active. `translation.shallow.constant_neurons` proves the same for all inputs of a
box, and folds neurons that are always active, where a network is small enough to be read whole.
"""

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.errors import StatisticsError
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.activations import ActivationStatistics


def silent_mask(statistics: ActivationStatistics, groups: tuple[NeuronGroup, ...]) -> NeuronMask:
    """Mask out the neurons that were exactly 0 at every token of a corpus.

    On that corpus the masked, pruned and compacted models compute what the original does. Elsewhere they need not: a neuron
    that was silent on a thousand tokens may speak at the next.

    Args:
        statistics: Sums over the corpus.
        groups: The neuron groups of the model.

    Returns:
        The mask, which may remove nothing.

    Raises:
        StatisticsError: A group has no statistics.
    """
    if missing := [group.name for group in groups if group.name not in statistics]:
        raise StatisticsError(f"Every group needs statistics, but `{missing[0]}` has none. Collect them on the same groups.")
    everything = NeuronMask.keep_all(groups, statistics.model, revision=statistics.revision)
    return everything.with_kept({group.name: statistics[group.name].absolute > 0 for group in groups})
