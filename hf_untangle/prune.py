"""Make a model smaller with one call and one corpus, and measure what that costs."""

import time
from copy import deepcopy
from dataclasses import asdict
from datetime import date
from typing import Any, Unpack

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.biases import check_biases
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.experts import cut_experts
from hf_untangle.compaction.saving import check_savable
from hf_untangle.compensation.choose import REFITS, refit_by
from hf_untangle.compensation.refit import Refit, check_refittable, refitted
from hf_untangle.configs.keywords import PruneSettings
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import CorpusSource, Part, corpus, with_chat
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.data.understood import announce
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.footprint import footprint
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.evaluation.self_written import with_own_text
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable, remove_
from hf_untangle.masks.undo_removal import RemovedWeights, cut_out_
from hf_untangle.models import revision_of
from hf_untangle.progress import one_bar, phase, plan_work
from hf_untangle.pruning.choice import members_of
from hf_untangle.pruning.plan import PrunePlan, judging_work, make_plan, read_blocks
from hf_untangle.pruning.plan_controls import random_mask, smallest_mask, tried_out
from hf_untangle.records.compression import LayoutRecord, PruneRecord, UnitsRecord
from hf_untangle.records.methods import RefitRecord
from hf_untangle.records.provenance import counts, device_name, versions
from hf_untangle.results.pruned import PruneResult
from hf_untangle.statistics.fingerprint import weights_fingerprint

SPEED_BLOCKS = 8
"""Blocks of the forward pass that speed is measured on."""


@checked_arguments
@one_bar("planning")
def plan(
    model: PreTrainedModel | ModelName,
    data: CorpusSource = "general",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    groups: tuple[NeuronGroup, ...] | None = None,
    config: PruneConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[PruneSettings],
) -> PrunePlan:
    """Decide what a compression would remove, and touch nothing.

    `print(plan(model).describe())` says what goes where; `prune(model, plan)` carries it out.

    Args:
        model: A causal language model, loaded. A name or path is loaded.
        data: The text by which neurons are judged: a name such as `general`, `self` for text that the model writes itself, a
            file or folder, a dataset, or strings.
        tokenizer: The model's tokenizer; found by the model's name when None.
        groups: Its neuron groups, from `neuron_groups(model, named=...)` where they cannot be found; found when None.
        config: Settings, or the name of a preset.
        progress: Whether to show progress bars.
        **settings: Fields of `PruneConfig` that override `config`, such as `ratio` and `importance`.

    Returns:
        The plan.
    """
    config = PruneConfig.resolve(config, **settings)
    model = opened(model)
    check_savable(model)
    tokenizer = find_tokenizer(model, tokenizer)
    groups = neuron_groups(model) if groups is None else groups
    check_removable(model, groups)
    if config.compensate in REFITS:
        check_refittable(model, members_of(groups, config))
    if config.ablation != "zero":
        check_biases(model, [group.name for group in groups if group.kind == "ffn"])
    return make_plan(model, groups, _read(data, model, tokenizer, config, progress), config, progress=progress)


def _read(
    data: CorpusSource, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: PruneConfig, progress: bool
) -> TokenBlocks:
    """Read what neurons are judged by, which may be text of the model's own, and say what it was taken for."""
    tokens: dict[Part, int] = {"train": config.tokens, "validation": 0, "test": config.evaluation_tokens}
    how = {"tokens": tokens, "unlike": None, "seed": config.seed, "progress": progress}
    source = with_own_text(with_chat(corpus(data), config.chat), model, tokenizer, **how)
    blocks = read_blocks(source, tokenizer, "train", config)
    announce(f"{blocks.corpus.name}: {blocks.understood}", progress=progress)
    return blocks


@checked_arguments
@all_or_nothing
@one_bar("pruning")
def prune(
    model: PreTrainedModel | ModelName,
    data: CorpusSource | PrunePlan = "general",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    groups: tuple[NeuronGroup, ...] | None = None,
    config: PruneConfig | str = "default",
    keep_removed: bool = False,
    progress: bool = True,
    **settings: Unpack[PruneSettings],
) -> PruneResult:
    """Remove what matters least to a corpus, in place, and measure what that costs: FFN neurons, or whatever `unit` says.

    The result is measured on the held-out test part of the corpus, beside random masks and the smallest
    weights of equal size. The model is changed in the very last moment: an error or an interruption before leaves it exactly
    as it was. With `compact`, it is left as it was in any case, and the result has a new model, whose tensors are smaller.

    Args:
        model: A causal language model, loaded. A name or path is loaded.
        data: The text by which neurons are judged, or a plan that was made for this model.
        tokenizer: The model's tokenizer; found by the model's name when None.
        groups: Its neuron groups, from `neuron_groups(model, named=...)` where they cannot be found; found when None.
        config: Settings, or the name of a preset.
        keep_removed: Whether to keep the removed weights in the result, for `restore`; with `compact` the model that was
            passed in is as it was anyway.
        progress: Whether to show progress bars.
        **settings: Fields of `PruneConfig` that override `config`, such as `ratio` and `importance`.

    Returns:
        The result, whose `model` is the model that was passed in, or the smaller one.
    """
    model = opened(model)
    start = time.perf_counter()
    tokenizer = find_tokenizer(model, tokenizer)
    plan_work(judging_work(data.config if isinstance(data, PrunePlan) else PruneConfig.resolve(config, **settings)))
    if isinstance(data, PrunePlan):
        chosen = _checked_plan(data, model, groups, config, dict(settings))
    else:
        chosen = plan(model, data, tokenizer=tokenizer, groups=groups, config=config, progress=progress, **settings)
    test = read_blocks(chosen.corpus, tokenizer, "test", chosen.config)
    phase("held-out text")
    before = footprint(model, test.first(SPEED_BLOCKS))
    refit = _refit(model, chosen, tokenizer, progress)
    metrics = _judge(model, chosen, refit, test, progress)
    original_weights = weights_fingerprint(model)
    smaller, removed = _carried_out(model, chosen, refit, keep_removed)
    gone = model.num_parameters() - smaller.num_parameters()
    record = PruneRecord(
        model=chosen.mask.model,
        revision=revision_of(model),
        original_weights=original_weights,
        weights=weights_fingerprint(smaller),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters_removed=gone if chosen.choice.leaves_tensors(chosen.config) else chosen.parameters_removed,
        groups=counts(chosen.groups, chosen.mask),
        config=chosen.config,
        **_units(chosen),
        corpora={"train": chosen.statistics.corpora[0], "test": test.record()},
        refit=RefitRecord.of(refit),
        **metrics,
        footprint_before=before,
        footprint_after=footprint(smaller, test.first(SPEED_BLOCKS)),
        versions=versions(),
        device=device_name(model),
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
    )
    return PruneResult(
        model=smaller,
        tokenizer=tokenizer,
        mask=chosen.mask,
        record=record,
        removed=removed,
        statistics=chosen.statistics,
        held_out=test,
        plan=chosen,
    )


def _checked_plan(
    chosen: PrunePlan,
    model: PreTrainedModel,
    groups: tuple[NeuronGroup, ...] | None,
    config: PruneConfig | str,
    settings: dict[str, object],
) -> PrunePlan:
    """Refuse a plan for another model, and settings that a plan has already."""
    if config != "default" or settings:
        raise ConfigError("A plan has its settings already, got others with it. Pass them to `plan`.")
    groups = neuron_groups(model) if groups is None else groups
    chosen.mask.check_fits(groups, str(model.name_or_path))
    return chosen


def _refit(model: PreTrainedModel, chosen: PrunePlan, tokenizer: PreTrainedTokenizerBase, progress: bool) -> Refit | None:
    """Refit what is kept on the text by which neurons were judged, where that is wanted."""
    config = chosen.config
    if config.compensate not in REFITS:
        return None
    blocks = read_blocks(chosen.corpus, tokenizer, "train", config)
    how = {"steps": config.block_steps, "batch_size": config.batch_size, "progress": progress}
    return refit_by(config.compensate, model, chosen.mask, chosen.groups, blocks, constants=chosen.constants, **how)


def _carried_out(
    model: PreTrainedModel, chosen: PrunePlan, refit: Refit | None, keep_removed: bool
) -> tuple[PreTrainedModel, RemovedWeights | None]:
    """Remove neurons in place, or make a smaller model and leave the given one as it was."""
    config = chosen.config
    constants, weights = (chosen.constants, None) if refit is None else (refit.constants, refit.weights)
    if config.compact is None and keep_removed:
        return model, cut_out_(model, chosen.mask, chosen.groups, constants=constants, weights=weights)
    if config.compact is None:
        remove_(model, chosen.mask, chosen.groups, constants=constants, weights=weights)
        return model, None
    # Weights and biases are written to, and compaction may yet refuse, so that happens to a copy.
    held = model if constants is None and weights is None else deepcopy(model)
    if held is not model:
        remove_(held, chosen.mask, chosen.groups, constants=constants, weights=weights)
    if config.unit == "experts":
        return cut_experts(held, chosen.mask), None
    how = {"groups": chosen.groups, "layout": config.compact, "round_to": config.round_to}
    return compact(held, chosen.mask, **how), None


def _units(chosen: PrunePlan) -> dict[str, Any]:
    """Which whole units go, and which layouts were compared, as the record has them."""
    choice = chosen.choice
    layouts = tuple(
        LayoutRecord(**asdict(one.cut), parameters=one.parameters, speedup=one.speedup, loss=one.loss) for one in choice.layouts
    )
    if choice.units is None or choice.scores is None:
        return {"layouts": layouts}
    names = choice.units.names
    units = UnitsRecord(
        kind=choice.units.kind,
        total=len(names),
        judged_by=chosen.config.judged_by,
        removed=tuple(names[unit] for unit in choice.gone),
        scores=dict(zip(names, choice.scores.tolist(), strict=True)),
        losses={names[unit]: choice.losses[unit] for unit in choice.gone if unit in choice.losses},
    )
    return {"units": units, "layouts": layouts}


def _judge(model: PreTrainedModel, chosen: PrunePlan, refit: Refit | None, test: TokenBlocks, progress: bool) -> dict[str, Any]:
    """Measure the original, the plan with its refit, and masks of equal size on held-out blocks."""

    def metrics(mask: NeuronMask, constants: Constants | None = chosen.constants) -> NextTokenMetrics:
        with tried_out(model, chosen, mask, constants):
            return next_token_metrics(model, test, batch_size=chosen.config.batch_size, progress=progress)

    seeds = range(chosen.config.seed, chosen.config.seed + chosen.config.controls)
    without = metrics(chosen.mask)
    after = without
    if refit is not None:
        with refitted(model, refit):
            after = metrics(chosen.mask, refit.constants)
    return {
        "before": metrics(NeuronMask.keep_all(chosen.groups, chosen.mask.model)),
        "after": after,
        "without_refit": None if refit is None else without,
        "random": tuple(metrics(random_mask(chosen, seed)) for seed in seeds),
        "magnitude": metrics(smallest_mask(chosen)),
    }
