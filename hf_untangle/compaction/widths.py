"""The configuration of a smaller model, found by trying its settings.

No table says what a configuration calls a width. Every setting that holds the old number is a candidate, and it is right when
the model that the changed configuration makes (a skeleton, without weights) has exactly the tensors that are wanted.
"""

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compaction.edits import Slice, cuts, projections_of
from hf_untangle.compaction.settings import Settings, head_settings, width_settings
from hf_untangle.compaction.skeleton import Shapes, shapes_of, skeleton
from hf_untangle.compaction.stays import Layout, groups_alike, padded, units_in_use, units_wanted
from hf_untangle.errors import CompactionError
from hf_untangle.masks.mask import NeuronMask


@dataclass(frozen=True, eq=False)
class Plan:
    """A smaller model: its configuration, and what stays of every tensor that shrinks."""

    config: PreTrainedConfig
    stays: dict[str, list[Slice]]
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
    search = Search.of(model_class, config, groups, mask)
    wanted = units_wanted(groups, mask, layout, round_to)
    for pattern, alike in groups_alike(groups).items():
        if not any(wanted[group.name] < len(search.used[group.name]) for group in alike):
            continue
        if alike[0].kind == "ffn":
            done = _narrow_ffn(search, alike, wanted, layout)
        else:
            done = heads and _narrow_attention(search, alike, wanted, layout)
        if not done:
            search.left[pattern] = _reason(alike[0], layout, heads)
    return Plan(search.settings.applied_to(config), search.cuts, search.left)


@dataclass(eq=False)
class Search:
    """The settings that were found so far, and how to try others."""

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    groups: tuple[NeuronGroup, ...]
    before: Shapes
    used: dict[str, Bool[Tensor, " unit"]]
    """By group: which units hold neurons that stay."""
    units: dict[str, Bool[Tensor, " unit"]]
    """By group: which units have a place with the settings found so far; at first, all of them."""
    settings: Settings = Settings()
    cuts: dict[str, list[Slice]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model_class: type[PreTrainedModel],
        config: PreTrainedConfig,
        groups: tuple[NeuronGroup, ...],
        mask: NeuronMask,
    ) -> "Search":
        """Begin with the model as it is."""
        used = {group.name: units_in_use(group, mask[group.name]) for group in groups}
        units = {name: own | True for name, own in used.items()}
        return cls(model_class, config, groups, shapes_of(skeleton(model_class, config)), used, units)

    def try_settings(self, settings: Settings, counts: dict[str, int]) -> dict[str, list[Slice]] | None:
        """Make the model of some settings, and see whether it is the one in which groups have so many units.

        Args:
            settings: All changes to the configuration.
            counts: By group: how many units it should have; the others should stay as they are.

        Returns:
            What stays on the axes that shrink; None when this is another model, or none at all.
        """
        units = self.units | {name: padded(self.used[name], count) for name, count in counts.items()}
        try:
            after = shapes_of(skeleton(self.model_class, settings.applied_to(self.config)))
        except Exception:  # Constructors refuse in ways of their own, and any of them means no.
            return None
        try:
            found = cuts(self.groups, units, self.before, after)
        except CompactionError:
            return None
        shrunk = [group for group in self.groups if not units[group.name].all()]
        whole = all(f"{name}.weight" in found for group in shrunk for name in projections_of(group))
        return found if whole else None

    def take(self, settings: Settings, counts: dict[str, int]) -> bool:
        """Go on with some settings if they make the model in which groups have so many units."""
        found = self.try_settings(settings, counts)
        if found is None:
            return False
        self.settings, self.cuts = settings, found
        self.units |= {name: padded(self.used[name], count) for name, count in counts.items()}
        return True


def _narrow_ffn(search: Search, alike: list[NeuronGroup], wanted: dict[str, int], layout: Layout) -> bool:
    """Find the setting for the width of some FFNs, and set it."""
    counts = {group.name: wanted[group.name] for group in alike}
    for name in width_settings(search.config, alike[0].size):
        changes = {group.layer: {name: counts[group.name]} for group in alike}
        if search.take(_with(search.settings, changes, layout), counts):
            return True
    return False


def _narrow_attention(search: Search, alike: list[NeuronGroup], wanted: dict[str, int], layout: Layout) -> bool:
    """Find the settings for the number of heads, and set them to the smallest numbers that make a model."""
    config = search.config.get_text_config()
    common: dict[str, Any] = {"allow_global_per_layer_attribute_access": True} if layout == "ragged" else {}
    if getattr(config, "head_dim", None) is None:
        # Else it would be derived from the number of heads that are left.
        common["head_dim"] = alike[0].head_size
    settings = search.settings.also(common, {})
    for each in head_settings(search.config, alike[0]) if alike[0].heads else []:
        possible = {count: _possible_count(search, settings, alike, each, count, layout) for count in {*wanted.values()}}
        counts = {group.name: possible[wanted[group.name]] for group in alike}
        changes = {group.layer: {name: one * counts[group.name] for name, one in each.items()} for group in alike}
        if any(count < len(search.used[name]) for name, count in counts.items()) and search.take(
            _with(settings, changes, layout), counts
        ):
            return True
    return False


def _possible_count(
    search: Search, settings: Settings, alike: list[NeuronGroup], each: dict[str, int], wanted: int, layout: Layout
) -> int:
    """The smallest number of key-value groups, from what is wanted on, that a model can be made with."""
    everything = len(search.used[alike[0].name])
    tried = [group for group in alike if layout == "uniform" or int(search.used[group.name].sum()) <= wanted]
    tried = tried if layout == "uniform" else tried[:1]
    for count in range(wanted, everything):
        changes = {group.layer: {name: one * count for name, one in each.items()} for group in tried}
        if search.try_settings(_with(settings, changes, layout), {group.name: count for group in tried}) is not None:
            return count
    return everything


def _with(settings: Settings, changes: dict[int, dict[str, int]], layout: Layout) -> Settings:
    """Add widths, by layer; all layers' are the same where the layout is uniform."""
    return settings.also(next(iter(changes.values())), {}) if layout == "uniform" else settings.also({}, changes)


def _reason(group: NeuronGroup, layout: Layout, heads: bool) -> str:
    """Say why some neurons keep their places."""
    if not heads:
        return "with fewer heads, the others would compute something else"
    what = "the width of an FFN" if group.kind == "ffn" else "the number of heads"
    where = " of a single layer" if layout == "ragged" else ""
    return f"the configuration has no setting for {what}{where} that makes such a model"
