"""One method after another on the same model: each within its share of the budget, what was pruned held at zero."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import KINDS, Kind, NeuronGroup
from hf_untangle.architecture.parameters import parameter_names
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError
from hf_untangle.masks.hold_removed import held_parameters, zero_weights_
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory, remove_
from hf_untangle.masks.select import remove_top
from hf_untangle.masks.undo_removal import Piece, RemovedWeights, bit_sum
from hf_untangle.methods.choose import PRUNE, stage_budget
from hf_untangle.methods.run import Setting, run_method
from hf_untangle.methods.settings import statistics_rows
from hf_untangle.methods.snapshot import Snapshot
from hf_untangle.models import name_and_revision
from hf_untangle.progress import phase
from hf_untangle.pruning.budget import check_known
from hf_untangle.pruning.controls import random_update
from hf_untangle.pruning.iterative import search_mask
from hf_untangle.pruning.judging import Origin, check_blocks, judge
from hf_untangle.pruning.resume import Journal
from hf_untangle.pruning.step import Pair, gather, neuron_scores
from hf_untangle.records.methods import MethodRecord
from hf_untangle.records.scores import Scores
from hf_untangle.records.unlearning import Comparison, History, Step
from hf_untangle.statistics.activation_statistics import ActivationStatistics


@dataclass(frozen=True, eq=False)
class Stages:
    """What several methods did, one after another."""

    mask: NeuronMask
    """Which neurons stayed."""
    masks: tuple[NeuronMask, ...]
    """The mask at every step of the history."""
    history: History
    records: tuple[MethodRecord, ...]
    """Of every method but pruning."""
    forget: ActivationStatistics
    """Statistics of the original model on the forget corpus."""
    retain: ActivationStatistics
    journals: tuple[Journal, ...]
    """To be closed once the result needs them no more."""


def check_trainable(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], task: str) -> None:
    """Refuse models that methods other than pruning cannot write.

    Args:
        model: The model.
        groups: Its neuron groups.
        task: What it predicts.

    Raises:
        ConfigError: It is no causal language model, or is run by several processes.
        MaskError: Its weights are quantised, offloaded or sharded.
    """
    if task != "next token":
        raise ConfigError(f"Methods other than pruning need a causal language model, got one that predicts a {task}. Prune it.")
    if place()[1] > 1:
        raise ConfigError(
            f"Methods other than pruning run in one process, got {place()[1]}. Train with `UnlearnTrainer` there."
        )
    check_in_memory(model, groups)


def run_stages(names: tuple[str, ...], setting: Setting, mask: NeuronMask | None = None) -> Stages:
    """Apply methods in order, in place.

    Args:
        names: The methods.
        setting: The model, the text and the budgets.
        mask: Where writes=neurons may write, and LoRA stand: the neurons that it removes; found from statistics when None.

    Returns:
        What they did. The model is written to: the caller undoes that on failure.

    Raises:
        StatisticsError: The model predicts nothing of one of the corpora.
    """
    model, groups = setting.model, setting.groups
    check_known(setting.origin.scores)
    check_blocks(setting.origin, setting.config)
    name, revision = name_and_revision(model)
    held = NeuronMask.keep_all(groups, name, "zero", revision)
    forget, retain, found = _statistics(setting, held)
    where = mask or (found if setting.own.writes == "neurons" else None)
    steps: list[Step] = []
    masks: list[NeuronMask] = []
    records: list[MethodRecord] = []
    journals: list[Journal] = []
    chosen = 0
    for number, method in enumerate(names, 1):
        stage = replace(setting, config=stage_budget(setting.config, number, len(names)))
        before = len(steps)
        if method == PRUNE:
            search = search_mask(
                model, groups, stage.train, stage.validation, config=stage.config, origin=stage.origin, progress=stage.progress
            )
            held = search.mask
            remove_(model, held, groups)
            journals.append(search.journal)
            # Steps beyond the chosen one took more than the next method begins with.
            steps += search.history.steps[: search.history.chosen]
            masks += search.masks[: search.history.chosen]
            chosen = before + search.history.chosen
        else:
            removed = None if all(kept.all() for kept in held.values()) else held
            records.append(run_method(method, replace(stage, held=removed, neurons=where)))
            steps += _history(records[-1], held)
            masks += [held] * len(records[-1].steps)
            chosen = before + records[-1].chosen
    numbered = tuple(step.model_copy(update={"number": number}) for number, step in enumerate(steps, 1))
    history = History(base=setting.origin.scores, steps=numbered, chosen=chosen)
    return Stages(held, tuple(masks), history, tuple(records), forget, retain, tuple(journals))


def _history(record: MethodRecord, held: NeuronMask) -> Iterator[Step]:
    """The judged steps of a method, as steps of a history."""
    removed: dict[Kind, int] = {kind: held.removed(kind) for kind in KINDS}
    for step in record.steps:
        yield Step(number=step.number, removed=removed, scores=step.scores, controls=(), seconds=step.seconds, share=step.share)


def _statistics(setting: Setting, everything: NeuronMask) -> tuple[ActivationStatistics, ActivationStatistics, NeuronMask]:
    """Statistics of the original model on rows that methods read, and the mask of the neurons that score highest."""
    config = setting.config.with_settings(candidates=1.0)
    rows = statistics_rows(setting.own)
    few = Pair(setting.train.forget.first(rows), setting.train.retain.first(rows))
    evidence = gather(setting.model, setting.groups, few, config, progress=setting.progress)
    scores = neuron_scores(evidence, setting.groups, config)
    share = setting.own.neurons
    mask = remove_top(everything, scores, setting.groups, {"ffn": share, "attention": share})
    return evidence.forget, evidence.retain, mask


def compare_stages(
    model: PreTrainedModel, own: Snapshot, found: Stages, test: Pair, origin: Origin, setting: Setting
) -> Comparison:
    """Measure the result on the test parts, beside random updates of equal size.

    Args:
        model: The model that has unlearned, which is left as it is.
        own: The original weights.
        found: What was done.
        test: Held-out blocks not used for selection.
        origin: The original on them.
        setting: The settings.

    Returns:
        The scores of all of them.
    """

    def scores() -> Scores:
        return judge(model, test, batch_size=setting.config.batch_size, progress=setting.progress, origin=origin)

    phase("held-out text")
    after = scores()
    controls = []
    if setting.config.controls:
        now = Snapshot(own.holders)
        held = held_parameters(model, found.mask, setting.groups)
        try:
            for seed in range(setting.config.seed, setting.config.seed + setting.config.controls):
                _shuffle_update_(own, now, seed)
                zero_weights_(held)
                controls.append(scores())
        finally:
            now.restore_()
    return Comparison(before=origin.scores, after=after, controls=tuple(controls))


def _shuffle_update_(own: Snapshot, now: Snapshot, seed: int) -> None:
    """Write the original weights plus the update of every parameter in a random order: as large, and aimed at nothing."""
    generator = torch.Generator().manual_seed(seed)
    for holder, before, after in zip(own.holders, own.values(), now.values(), strict=True):
        holder.write_(random_update(before, after, generator))


def original_weights(model: nn.Module, own: Snapshot) -> RemovedWeights:
    """Keep the original of every parameter that has changed, for `restore`.

    Args:
        model: The model that has unlearned.
        own: Its original weights, from `restored_on_failure`.

    Returns:
        What `put_back_` takes.
    """
    names = parameter_names(model)
    pieces = tuple(
        Piece(name, (slice(None),), values)
        for name, values in zip(names, own.values(), strict=True)
        if not torch.equal(values, model.get_parameter(name).detach().cpu())
    )
    return RemovedWeights(pieces, (), {}, str(getattr(model, "name_or_path", "")), bit_sum(model))
