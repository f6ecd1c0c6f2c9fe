"""Which FFN neurons go, one by one: so many of every layer, or the lowest of all of them."""

from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.errors import ConfigError
from hf_untangle.importance.observations import Neurons
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import removed_parameters
from hf_untangle.masks.select import remove_top
from hf_untangle.pruning.costs import Prefill, Reduction
from hf_untangle.pruning.layouts import budget_of, neurons_for
from hf_untangle.pruning.unit_sets import units_of

TINY = 1e-30
"""Added to no sum, but put in its place where nothing is worth anything."""


def shares_of(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    everything: NeuronMask,
    config: PruneConfig,
    needed: int = 0,
    prefill: Prefill | None = None,
) -> tuple[float, ...]:
    """Find the share of each FFN that the budget takes.

    Args:
        model: The model.
        groups: Its neuron groups.
        everything: A mask that keeps all neurons.
        config: The settings, with the budget.
        needed: Parameters that have to go for the memory that is asked for.
        prefill: How long passes take, where a speed is asked for.

    Returns:
        One share for each FFN.

    Raises:
        ConfigError: The budget asks for more than all FFN neurons have, or for other layers than the model has.
    """
    ffns = [group.name for group in groups if group.kind == "ffn"]
    if config.per_layer is not None:
        if len(config.per_layer) != len(ffns):
            raise ConfigError(
                f"per_layer must have a share for each of the {len(ffns)} FFNs of `{everything.model}`, got "
                f"{len(config.per_layer)}. Give 0 to a layer that is to stay whole."
            )
        return config.per_layer
    if config.speed is not None or config.memory is not None:
        return (_share_for(model, groups, everything, config, needed, prefill),) * len(ffns)
    if config.parameters is None:
        return (config.ratio,) * len(ffns)
    without_ffns = everything.with_kept(dict(everything) | {name: ~everything[name] for name in ffns})
    removable = removed_parameters(model, without_ffns, groups)
    if config.parameters >= removable:
        raise ConfigError(
            f"parameters must be below the {removable:,} that all FFN neurons of `{everything.model}` have, but "
            f"{config.parameters:,} came."
        )
    return (config.parameters / removable,) * len(ffns)


def _share_for(
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...],
    everything: NeuronMask,
    config: PruneConfig,
    needed: int,
    prefill: Prefill | None,
) -> float:
    """The share without which the model is as small, or as fast, as it is to be."""
    layers = units_of(model, groups, "layers")
    budget = budget_of(model, groups, everything, layers, None, config, needed, prefill)
    cut = neurons_for(groups, budget, Reduction(), config)
    widths = [group.size // (group.experts or 1) for group in groups if group.kind == "ffn"]
    if cut is None:
        raise ConfigError(
            f"The budget must leave some of the {min(widths):,} neurons of each FFN, but without nearly all of them the model "
            f"is still larger or slower than {config.memory or config.target}. Ask for less, or use unit='any'."
        )
    return cut.neurons / min(widths)


def lowest_removed(
    everything: NeuronMask,
    importance: dict[str, Neurons],
    ffns: tuple[NeuronGroup, ...],
    shares: tuple[float, ...],
    config: PruneConfig,
) -> NeuronMask:
    """Remove the least important neurons, of each layer by its share or of all layers together.

    Args:
        everything: A mask that keeps all neurons.
        importance: What each neuron is worth, by group.
        ffns: The groups of FFNs.
        shares: The share of each that goes.
        config: The settings.

    Returns:
        The mask.

    Raises:
        ConfigError: Nothing goes.
    """
    mask, scores = everything, {name: -worth for name, worth in importance.items()}
    if config.allocation == "global":
        # Layers differ in scale for reasons that have nothing to do with what they are worth.
        relative = {name: score / score.abs().mean().clamp_min(TINY) for name, score in scores.items()}
        mask = remove_top(mask, relative, ffns, {"ffn": shares[0]})
    else:
        for group, share in zip(ffns, shares, strict=True):
            mask = remove_top(mask, scores, (group,), {"ffn": share})
    if not mask.removed():
        raise ConfigError(
            f"The budget must remove at least one of {everything.neurons('ffn'):,} FFN neurons, but it rounds to 0. "
            "Raise ratio, parameters or per_layer."
        )
    return mask
