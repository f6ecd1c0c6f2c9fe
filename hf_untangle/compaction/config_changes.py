"""Changes to a configuration, for all layers or for single ones, and which of its settings may say how wide a block is."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedConfig

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.ragged import MISSING_CALL

OPTIONAL_WIDTHS = ("n_inner", "ffn_dim", "ffn_hidden_size", "intermediate_size")
"""Settings for the width of an FFN that may be None, which stands for a multiple of the hidden size."""


@dataclass(frozen=True)
class ConfigChanges:
    """Changes to a configuration."""

    everywhere: dict[str, Any] = field(default_factory=dict)
    by_layer: dict[int, dict[str, Any]] = field(default_factory=dict)

    def also(self, everywhere: dict[str, Any], by_layer: dict[int, dict[str, Any]]) -> "ConfigChanges":
        """Add changes to these.

        Args:
            everywhere: Values by setting.
            by_layer: The same for single layers.

        Returns:
            All of the changes.
        """
        layers = self.by_layer | {layer: self.by_layer.get(layer, {}) | own for layer, own in by_layer.items()}
        return ConfigChanges(self.everywhere | everywhere, layers)

    def applied_to(self, config: PreTrainedConfig) -> PreTrainedConfig:
        """Change a copy of a configuration.

        Args:
            config: The configuration of a model.

        Returns:
            The changed copy, with `per_layer_config` where layers differ.
        """
        changed = deepcopy(config)
        text = changed.get_text_config()
        for name, value in self.everywhere.items():
            setattr(text, name, value)
        known = layers_apart(config)
        if self.by_layer or known:
            # What all layers are to have in common is no more a layer's own.
            known = {layer: {name: own[name] for name in own.keys() - self.everywhere.keys()} for layer, own in known.items()}
            layers = sorted(known.keys() | self.by_layer.keys())
            text.per_layer_config = {layer: known.get(layer, {}) | self.by_layer.get(layer, {}) for layer in layers}
        return changed


def layers_apart(config: PreTrainedConfig) -> dict[int, dict[str, Any]]:
    """List the settings that single layers have for themselves, as a ragged model has them.

    Args:
        config: The configuration of a model.

    Returns:
        Values by setting, by the number of the layer; nothing where all layers are alike.
    """
    written = config.get_text_config().to_dict().get("per_layer_config") or {}
    return {int(layer): own for layer, own in written.items() if layer != MISSING_CALL}


def _settings_of(config: PreTrainedConfig, layer: int) -> dict[str, Any]:
    """All settings that one layer goes by."""
    return vars(config.get_text_config()) | layers_apart(config).get(layer, {})


def width_settings(config: PreTrainedConfig, sizes: Iterable[tuple[int, int]]) -> list[tuple[str, int]]:
    """List the settings that may say how wide some FFNs are.

    Args:
        config: The configuration of a model.
        sizes: The layer of each, and how wide it is.

    Returns:
        The names of the numbers that are these sizes, of those that may stand for them, and of those that are twice as large,
        as where the setting counts gate and up together; and how many times the size each is.
    """
    values = vars(config.get_text_config())
    unset = [(name, 1) for name in OPTIONAL_WIDTHS if name in values and values[name] is None]
    stated = [(_settings_of(config, layer), size) for layer, size in set(sizes)]
    once, twice = (
        [(name, times) for name in values if all(_is(own.get(name), times * size) for own, size in stated)] for times in (1, 2)
    )
    return once + unset + twice


def _is(value: Any, size: int) -> bool:
    """Tell whether a setting is a number, and this one."""
    return type(value) is int and value == size


def head_settings(config: PreTrainedConfig, group: NeuronGroup) -> list[dict[str, int]]:
    """List the settings that may say how many heads attention has.

    Args:
        config: The configuration of a model.
        group: An attention block of it.

    Returns:
        Candidates: each holds, by setting, how many there are for one key-value group.
    """
    own = _settings_of(config, group.layer)
    values = {name: value for name, value in own.items() if type(value) is int and "head" in name}
    assert group.heads is not None and group.key_value_heads is not None
    shared = [name for name, value in values.items() if _of_keys(name) and value == group.key_value_heads]
    query = [name for name, value in values.items() if not _of_keys(name) and value == group.heads]
    per_group = group.heads // group.key_value_heads
    return [{name: per_group} | dict.fromkeys(shared, 1) for name in query]


def _of_keys(name: str) -> bool:
    """Tell whether a setting is about keys and values."""
    return "kv" in name or "key_value" in name
