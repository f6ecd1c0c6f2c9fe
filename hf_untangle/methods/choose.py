"""Which methods are asked for, whether they can be joined, and which settings belong to which."""

from collections.abc import Sequence
from typing import Any

from hf_untangle.config import nearest
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.errors import ConfigError
from hf_untangle.methods.registry import METHODS
from hf_untangle.methods.settings import DISRUPTION_BUDGET, MethodConfig

PRUNE = "prune"
"""The name of selective pruning, which is no composition of objectives."""
AUTO = "auto"
"""The method is chosen for the model, see `automatic.py`."""


def method_names(method: str | Sequence[str]) -> tuple[str, ...]:
    """Check the methods that are asked for.

    Args:
        method: A name, several names in the order in which they are applied, or names joined by commas.

    Returns:
        The names.

    Raises:
        ConfigError: A name is unknown, or the methods cannot be joined in this order.
    """
    given = [method] if isinstance(method, str) else method
    names = tuple(name.strip() for one in given for name in one.split(","))
    if names == (AUTO,):
        return names
    known = (AUTO, PRUNE, *METHODS)
    for name in names:
        if name not in known:
            raise ConfigError(f"method must be one of {', '.join(known)}, got `{name}`{nearest(str(name), known)}.")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Every method must be named once, got {list(names)!r}. Give each one that is to be applied once.")
    if AUTO in names:
        raise ConfigError(f"`auto` chooses the method and must stand alone, got {list(names)!r}. Leave the others out.")
    if "snip_set_difference" in names[:-1]:
        after = names[names.index("snip_set_difference") + 1]
        raise ConfigError(
            f"snip_set_difference must come last, got `{after}` after it, which would write to weights that are zero."
        )
    return names


def split_settings(
    names: tuple[str, ...], config: UnlearnConfig | str, settings: dict[str, Any]
) -> tuple[UnlearnConfig, MethodConfig]:
    """Give every setting to those settings that have it; `steps` is the number of steps of each method.

    Args:
        names: The methods; of `auto` alone, settings of any method are let through.
        config: Settings of data, budgets and pruning, or the name of a preset.
        settings: Single fields of either.

    Returns:
        Both settings, checked. Methods other than pruning have a disruption budget where none is set.

    Raises:
        ConfigError: A field is unknown or out of its range, or belongs to no method that is applied.
    """
    only_pruning, prunes = names == (PRUNE,), PRUNE in names or AUTO in names
    of_pruning, of_methods = UnlearnConfig.model_fields, MethodConfig.model_fields
    fields = {**of_pruning, **({} if only_pruning else of_methods)}
    for name in settings:
        if name in fields:
            continue
        if name in of_methods:
            raise ConfigError(f"`{name}` is a setting of methods other than pruning, got method=`prune`. Leave it out.")
        raise ConfigError(f"There is no setting `{name}`{nearest(name, fields)}.")
    shared = {name: value for name, value in settings.items() if name in of_pruning and (prunes or name != "steps")}
    resolved = UnlearnConfig.resolve(config, **shared)
    trains = not only_pruning and names != (AUTO,)
    if trains and resolved.disruption_budget is None:
        resolved = resolved.with_settings(disruption_budget=DISRUPTION_BUDGET)
    if trains and resolved.ablation != "zero":
        raise ConfigError(
            f"A method that trains needs ablation=`zero`, got `{resolved.ablation}`, whose biases it changes. Leave it out."
        )
    if trains and resolved.compensate != "none":
        raise ConfigError(
            f"A method that trains needs compensate=`none`, got `{resolved.compensate}`, for pruning alone. Leave it out."
        )
    own = {} if only_pruning else {name: value for name, value in settings.items() if name in of_methods}
    return resolved, MethodConfig().with_settings(**own)


def stage_budget(config: UnlearnConfig, number: int, count: int) -> UnlearnConfig:
    """The budget that the first few of several methods may use together: an equal share for each.

    Args:
        config: The settings, with the budget of all methods.
        number: Of the method, from 1.
        count: How many methods there are.

    Returns:
        The same settings with that part of each budget.
    """
    share = number / count
    disruption = config.disruption_budget
    return config.with_settings(
        retain_budget=share * config.retain_budget,
        perplexity_budget=1 + share * (config.perplexity_budget - 1),
        disruption_budget=None if disruption is None else share * disruption,
    )
