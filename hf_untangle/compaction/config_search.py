"""The configuration of a smaller model, found by trying its settings.

No table says what a configuration calls a width. Every setting that holds the old number is a candidate, and it is right when
the model that the changed configuration makes (a skeleton, without weights) has exactly the tensors that are wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.meta_models import Shapes, shapes_of, skeleton
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compaction.config_changes import ConfigChanges, head_settings, width_settings
from hf_untangle.compaction.edits import Stays
from hf_untangle.compaction.slices import cuts
from hf_untangle.compaction.target_widths import Layout, groups_alike, padded, places_in, units_in_use, units_wanted
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask

ACCESS = {"allow_global_per_layer_attribute_access": True}
"""Lets the rest of a model read what the configuration states for all layers, where layers have values of their own."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A smaller model: its configuration, and what stays of every tensor that shrinks."""

    config: PreTrainedConfig
    stays: dict[str, list[Stays]]
    """By parameter: the axes that shrink, with the indices that stay."""
    left: dict[str, str]
    """By pattern of groups: why what was removed there still has its place, as zeros."""


def plan_widths(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    groups: tuple[NeuronGroup, ...],
    mask: NeuronMask,
    *,
    layout: Layout,
    round_to: int | None,
    heads: bool = True,
) -> Plan:
    """Find the configuration of the smaller model.

    Args:
        model_class: The class of the model.
        config: Its configuration.
        groups: Its neuron groups.
        mask: Which neurons stay.
        layout: Whether layers may differ.
        round_to: FFN widths are multiples of this.
        heads: Whether key-value groups are taken out too.

    Returns:
        The plan. What the configuration cannot express is left in its place.
    """
    search = Search.of(model_class, config, groups, mask, layout)
    wanted = units_wanted(groups, mask, layout, round_to)
    for pattern, alike in groups_alike(groups).items():
        if all(wanted[group.name] == places_in(group) for group in alike):
            continue
        if alike[0].kind == "ffn":
            done = _narrow_ffn(search, alike, wanted) or _narrow_ffn(search, _as_wide_as(alike[0], groups), wanted)
        else:
            done = heads and _narrow_attention(search, alike, wanted)
        if not done:
            search.left[pattern] = _reason(alike[0], layout, heads)
    return Plan(search.settings.applied_to(config), search.cuts, search.left)


@dataclass(eq=False)
class Search:
    """The settings that were found so far, and how to try others."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    groups: tuple[NeuronGroup, ...]
    layout: Layout
    before: Shapes
    used: dict[str, Bool[Tensor, "expert unit"]]
    """By group: which units hold neurons that stay."""
    units: dict[str, Bool[Tensor, "expert unit"]]
    """By group: which units have a place with the settings found so far; at first, all of them."""
    settings: ConfigChanges = ConfigChanges()
    cuts: dict[str, list[Stays]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model_class: type[PreTrainedModel],
        config: PreTrainedConfig,
        groups: tuple[NeuronGroup, ...],
        mask: NeuronMask,
        layout: Layout,
    ) -> "Search":
        """Begin with the model as it is."""
        used = {group.name: units_in_use(group, mask[group.name]) for group in groups}
        units = {name: own | True for name, own in used.items()}
        return cls(model_class, config, groups, layout, shapes_of(skeleton(model_class, config)), used, units)

    def try_settings(self, settings: ConfigChanges, counts: dict[str, int]) -> dict[str, list[Stays]] | None:
        """Make the model of some settings, and see whether it is the one in which groups have so many units.

        Args:
            settings: All changes to the configuration.
            counts: By group: how many units it should have; the others should stay as they are.

        Returns:
            What stays on the axes that shrink; None when this is another model, or none at all.
        """
        units = self.units | {name: padded(self.used[name], count) for name, count in counts.items()}
        try:
            changed = settings.applied_to(self.config)
            # Otherwise such a model would be made, but neither saved nor loaded: what is loaded is initialized first, for
            # which some classes look at the width of all layers.
            changed.validate()
            made = skeleton(self.model_class, changed)
            made.initialize_weights()
            after = shapes_of(made)
        except Exception:  # Constructors refuse in ways of their own, and any of them means no.
            return None
        try:
            return cuts(self.groups, units, self.before, after)
        except CompactionError:
            return None

    def take(self, settings: ConfigChanges, counts: dict[str, int]) -> bool:
        """Go on with some settings if they make the model in which groups have so many units."""
        found = self.try_settings(settings, counts)
        if found is None:
            return False
        self.settings, self.cuts = settings, found
        self.units |= {name: padded(self.used[name], count) for name, count in counts.items()}
        return True

    def with_widths(self, settings: ConfigChanges, changes: dict[int, dict[str, int]]) -> ConfigChanges:
        """Add widths, by layer, to some settings; all layers' are the same where the layout is uniform."""
        if self.layout == "uniform":
            return settings.also(next(iter(changes.values())), {})
        return settings.also({}, changes)


def _narrow_ffn(search: Search, alike: Sequence[NeuronGroup], wanted: dict[str, int]) -> bool:
    """Find the setting for the width of some FFNs, and set it: in each layer to what the widest of them needs."""
    by_layer: dict[int, int] = {}
    for group in alike:
        layer = group.layer if search.layout == "ragged" else 0
        by_layer[layer] = max(by_layer.get(layer, 0), wanted[group.name])
    counts = {group.name: by_layer[group.layer if search.layout == "ragged" else 0] for group in alike}
    for name, times in width_settings(search.config, ((group.layer, places_in(group)) for group in alike)):
        changes = {layer: {name: times * count} for layer, count in by_layer.items()}
        for common in ({}, ACCESS) if search.layout == "ragged" else ({},):
            if search.take(search.with_widths(search.settings.also(common, {}), changes), counts):
                return True
    return False


def _as_wide_as(group: NeuronGroup, groups: Sequence[NeuronGroup]) -> list[NeuronGroup]:
    """All FFNs of one width, which may share a setting: an encoder's and a decoder's, or those of dense and routed layers."""
    return [one for one in groups if one.kind == "ffn" and places_in(one) == places_in(group)]


def _narrow_attention(search: Search, alike: list[NeuronGroup], wanted: dict[str, int]) -> bool:
    """Find the settings for the number of heads, and set them to the smallest numbers that make a model."""
    text = search.config.get_text_config()
    common: dict[str, Any] = dict(ACCESS) if search.layout == "ragged" else {}
    if getattr(text, "head_dim", None) is None:
        # Else it would be derived from the number of heads that are left.
        common["head_dim"] = alike[0].head_size
    settings = search.settings.also(common, {})
    for each in head_settings(search.config, alike[0]) if alike[0].heads else []:
        cases = {(wanted[group.name], places_in(group)) for group in alike}
        counts = {case: _possible_count(search, settings, alike, each, *case) for case in cases}
        chosen = {group.name: counts[wanted[group.name], places_in(group)] for group in alike}
        if all(chosen[group.name] == places_in(group) for group in alike):
            continue
        changes = {group.layer: {name: one * chosen[group.name] for name, one in each.items()} for group in alike}
        if search.take(search.with_widths(settings, changes), chosen):
            return True
    return False


def _possible_count(  # noqa: PLR0913 (a search has so many parts)
    search: Search, settings: ConfigChanges, alike: list[NeuronGroup], each: dict[str, int], wanted: int, places: int
) -> int:
    """The smallest number of key-value groups, from what is wanted on, that a model can be made with; `places` if none."""
    fitting = [group for group in alike if places_in(group) == places and int(search.used[group.name].sum()) <= wanted]
    tried = alike if search.layout == "uniform" else fitting[:1]
    for count in range(wanted, places):
        changes = {group.layer: {name: one * count for name, one in each.items()} for group in tried}
        counts = {group.name: count for group in tried}
        if search.try_settings(search.with_widths(settings, changes), counts) is not None:
            return count
    return places


def _reason(group: NeuronGroup, layout: Layout, heads: bool) -> str:
    """Say why some neurons keep their places."""
    if not heads:
        return "with fewer heads, the others would compute something else"
    what = "the width of an FFN" if group.kind == "ffn" else "the number of heads"
    where = " of a single layer" if layout == "ragged" else ""
    return f"the configuration has no setting for {what}{where} that makes such a model"
