"""Unlearn a capability with one call."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Unpack, cast

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.biases import check_biases
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.saving import check_savable
from hf_untangle.compensation.choose import REFITS, refit_by
from hf_untangle.compensation.refit import Refit, check_refittable, refitted
from hf_untangle.config import checked
from hf_untangle.configs.keywords import UnlearnSettings
from hf_untangle.configs.robustify import RobustifyConfig, as_settings
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.data.images import ImageClasses, Processor
from hf_untangle.data.tokens import Task
from hf_untangle.data.understood import announce
from hf_untangle.errors import BudgetError, ConfigError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable, remove_, removed_parameters
from hf_untangle.masks.undo_removal import RemovedWeights, cut_out_
from hf_untangle.methods.automatic import choose
from hf_untangle.methods.choose import PRUNE, method_names, split_settings
from hf_untangle.methods.keywords import MethodSettings
from hf_untangle.methods.run import Setting
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.snapshot import restored_on_failure
from hf_untangle.methods.stages import Stages, check_trainable, compare_stages, original_weights, run_stages
from hf_untangle.methods.work import foresee
from hf_untangle.models import revision_of
from hf_untangle.progress import one_bar, phase
from hf_untangle.pruning.by_corpus import OneCorpus, by_themselves, metrics_of_each, scores_of_each
from hf_untangle.pruning.controls import Chosen, compare
from hf_untangle.pruning.iterative import Search, search_mask
from hf_untangle.pruning.judging import origin_on
from hf_untangle.pruning.reading import lines_of, read_also, read_pairs, with_written_text
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.tasks import find_processor, open_pair, task_of
from hf_untangle.records.methods import RefitRecord
from hf_untangle.records.provenance import counts, device_name, versions
from hf_untangle.records.unlearning import Comparison, Continuation, History, UnlearnRecord
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.statistics.fingerprint import weights_fingerprint

Prompt = str | Tensor
"""A text to continue, or its token ids."""
PROMPT_TOKENS = 24
"""Length of the prompts that are taken from held-out text when none are given."""


class SettingsOfAnyMethod(UnlearnSettings, MethodSettings, total=False):
    """Single fields of `UnlearnConfig` and of `MethodConfig`."""


@checked_arguments
@all_or_nothing
@one_bar("unlearning")
def unlearn(  # noqa: PLR0913 (each is a choice of its own)
    model: PreTrainedModel | ModelName,
    forget: CorpusSource | ImageClasses,
    retain: CorpusSource | ImageClasses | None = None,
    *,
    method: str | Sequence[str] = "auto",
    mask: NeuronMask | None = None,
    tokenizer: PreTrainedTokenizerBase | Processor | None = None,
    groups: tuple[NeuronGroup, ...] | None = None,
    config: UnlearnConfig | str = "default",
    prompts: Sequence[str] | None = None,
    also: Mapping[str, CorpusSource] | None = None,
    keep_removed: bool = False,
    robustify: float | RobustifyConfig | None = None,
    progress: bool = True,
    **settings: Unpack[SettingsOfAnyMethod],
) -> UnlearnResult:
    """Take a capability out of a model, in place, and keep the rest.

    By default the method is chosen for the model: where its weights can be trained, ascent on the forget corpus beside KL to
    the original on the retain corpus. With `method="prune"`, and where they cannot, neurons that matter more to the forget
    corpus than to the retain corpus are found by selective pruning (arXiv:2403.01267) and removed. Several methods are
    applied one after another, each within its share of the budget. Steps are chosen on validation parts of both corpora; what
    the result reports is measured on held-out test parts. An error or an interruption leaves the model exactly as it was, and
    the same call then continues after the last finished step of pruning.

    Args:
        model: A causal or masked language model, or an image classifier, loaded with its head. A name or path is loaded.
        forget: The corpus whose capability goes: a name such as `code`, a file or folder, rows as trl takes them (texts, chats,
            prompts with completions, preferences, token ids), or what `corpus` made of these; for a classifier, classes of a
            data set, such as `digits:0,1`. Of rows with answers, answers alone count. `split="all"` judges on the same rows.
        retain: The corpus whose capability stays, or a list of several, each within the budget; `self` is text that the model
            writes itself. When None, the other side of a preference data set, all other classes, or `general` prose, with
            `self` beside it where `auto` trains.
        method: `prune`, a name of `hf_untangle.methods.METHODS`, or several: `["prune", "npo"]` trains what pruning left,
            with removed neurons held at zero. `auto` is what forgets most for its disruption where the weights can be trained,
            and `prune` elsewhere, also where a setting of pruning is given; it says which and why.
        mask: Where methods may write: the neurons that it removes. With `writes="neurons"` these are found when None.
        tokenizer: The model's tokenizer, or a function that makes pixel values of a list of images; found by the model's
            name when None.
        groups: Its neuron groups, from `neuron_groups(model, named=...)` where they cannot be found; found when None.
        config: Settings, or the name of a preset: `default`, `quick` for a first look, or `paper`.
        prompts: Texts to continue before and after, for the report; the beginnings of held-out text when None.
        also: What else to measure before and after, by name: paraphrases of what is forgotten, or its neighbors.
        keep_removed: Whether to keep the removed weights in the result, for `restore`.
        robustify: How far to shrink the weights before the result is distilled into them, so that relearning takes longer: a
            strength such as 0.25, or settings. It is a training of many tokens; see `UnlearnResult.robustify`.
        progress: Whether to show progress bars.
        **settings: Fields of `UnlearnConfig` that override `config`, and of `MethodConfig` for methods other than pruning.

    Returns:
        The result, whose `model` is the model that was passed in.

    Raises:
        ConfigError: A method or a setting is unknown, out of its range, or cannot be joined with the others.
        BudgetError: No step stays inside the budget; the model is as it was.
    """
    start = time.perf_counter()
    names = method_names(method)
    split_settings(names, config, dict(settings))
    hardening = None if robustify is None else checked(RobustifyConfig, as_settings(robustify))
    model = opened(model)
    check_savable(model)
    task = task_of(model)
    processor = find_processor(model, task, tokenizer)
    groups = neuron_groups(model) if groups is None else groups
    check_removable(model, groups)
    if hardening is not None and task != "next token":
        raise ConfigError(f"Robustify distills causal language models, but {type(model).__name__} predicts the {task}.")
    choice = choose(names, model, groups, task, config, settings)
    names, (config, own) = choice.names, split_settings(choice.names, config, choice.settings)
    if config.compensate in REFITS:
        check_refittable(model, [group for group in groups if config.fractions()[group.kind]])
    if config.ablation != "zero":
        check_biases(model, [group.name for group in groups if config.fractions()[group.kind]])
    if names != (PRUNE,):
        check_trainable(model, groups, task)
    _check_mask(mask, own, groups, model)
    write = partial(with_written_text, model=model, processor=processor, config=config, progress=progress)
    corpora = choice.retaining(
        open_pair(task, forget, retain, config), model, write, named=retain is not None, progress=progress
    )
    pairs = read_pairs(task, corpora, processor, config)
    measured = by_themselves(pairs["test"], read_also(also or {}, processor, config) if task == "next token" else {})
    for line in (*lines_of(pairs), *choice.lines):
        announce(line, progress=progress)
    texts = _prompts(prompts, pairs["test"])
    run = _Run(
        model, processor, groups, pairs, measured, config, task, texts, weights_fingerprint(model), hardening, progress, start
    )
    quick = split_settings(names, "quick", choice.settings | dict(choice.first_look))
    foresee(model, names, (config, own), quick, pairs, progress=progress)
    if names == (PRUNE,):
        return run.prune(keep_removed)
    try:
        return run.apply(names, own, mask, keep_removed)
    except BudgetError:
        if choice.instead is None or mask is not None:
            raise
    announce("method: prune, as training took nothing inside the budget", progress=progress)
    return replace(run, config=choice.instead).prune(keep_removed)


@dataclass(frozen=True, eq=False)
class _Run:
    """What all methods work with."""

    model: PreTrainedModel
    processor: PreTrainedTokenizerBase | Processor
    groups: tuple[NeuronGroup, ...]
    pairs: dict[Part, Pair]
    measured: tuple[OneCorpus, ...]
    """What is measured by itself."""
    config: UnlearnConfig
    task: Task
    texts: list[Prompt]
    fingerprint: str
    """Of the weights before the run."""
    robustify: RobustifyConfig | None
    """How to make the result withstand relearning, where that is wanted."""
    progress: bool
    start: float

    def prune(self, keep_removed: bool) -> UnlearnResult:
        """Find a mask with the model as it is, and write to it in the very last moment."""
        model, groups, pairs = self.model, self.groups, self.pairs
        search = search_mask(model, groups, pairs["train"], pairs["validation"], config=self.config, progress=self.progress)
        refit = self.refit(search)
        chosen = Chosen(search.mask, search.retain, search.constants)
        comparison = compare(model, groups, chosen, pairs["test"], config=self.config, progress=self.progress, refit=refit)
        before = self.seen()
        constants, weights = (search.constants, None) if refit is None else (refit.constants, refit.weights)
        with refitted(model, refit), masked(model, search.mask, constants=constants):
            after = self.seen()
        record = self.record(search.mask, search.history, comparison, before, after)
        record = record.model_copy(update={"refit": RefitRecord.of(refit)})
        if keep_removed:
            removed = cut_out_(model, search.mask, groups, constants=constants, weights=weights)
        else:
            removed = None
            remove_(model, search.mask, groups, constants=constants, weights=weights)
        result = self.result(search, record, removed)
        search.journal.close()
        return result

    def refit(self, search: Search) -> Refit | None:
        """Refit what is kept, where that is wanted, on the retain corpus alone: nothing of the forget corpus may come back."""
        config, retain = self.config, self.pairs["train"].retain
        how = {"steps": config.block_steps, "batch_size": config.batch_size, "progress": self.progress}
        return refit_by(config.compensate, self.model, search.mask, self.groups, retain, constants=search.constants, **how)

    def apply(self, names: tuple[str, ...], own: MethodConfig, mask: NeuronMask | None, keep_removed: bool) -> UnlearnResult:
        """Apply methods that write to the model on their way, and undo all of it when something fails."""
        model, config, pairs = self.model, self.config, self.pairs
        tokenizer = cast(PreTrainedTokenizerBase, self.processor)
        phase("looking at the original")
        with restored_on_failure(model) as weights:
            how = {"batch_size": config.batch_size, "progress": self.progress, "disruption": True}
            origin, on_test = (origin_on(model, pairs[part], **how) for part in ("validation", "test"))
            before = self.seen()
            setting = Setting(
                model, self.groups, tokenizer, pairs["train"], pairs["validation"], origin, config, own, progress=self.progress
            )
            found = run_stages(names, setting, mask)
            comparison = compare_stages(model, weights, found, pairs["test"], on_test, setting)
            after = self.seen()
            record = self.record(found.mask, found.history, comparison, before, after)
            record = record.model_copy(update={"methods": names, "training": found.records})
            removed = original_weights(model, weights) if keep_removed else None
        result = self.result(found, record, removed)
        for journal in found.journals:
            journal.close()
        return result

    def result(self, found: Search | Stages, record: UnlearnRecord, removed: RemovedWeights | None) -> UnlearnResult:
        """The result, once the model is as it is to stay, or is only to be made robust."""
        result = UnlearnResult(
            model=self.model,
            tokenizer=self.processor,
            mask=found.mask,
            record=record.model_copy(update={"weights": weights_fingerprint(self.model)}),
            removed=removed,
            mask_path=found.masks,
            forget=found.forget,
            retain=found.retain,
            held_out=self.pairs["test"],
        )
        return result if self.robustify is None else result.robustify(config=self.robustify, progress=self.progress)

    def seen(self) -> "_Seen":
        """What the model as it is now does: one that does not write has no continuations."""
        tokenizer = cast(PreTrainedTokenizerBase, self.processor)
        written = continuations(self.model, tokenizer, self.texts) if self.texts else []
        return _Seen(written, metrics_of_each(self.model, self.measured, self.config, progress=self.progress))

    def record(
        self, mask: NeuronMask, history: History, comparison: Comparison, before: "_Seen", after: "_Seen"
    ) -> UnlearnRecord:
        """Everything about the run."""
        model, groups = self.model, self.groups
        each = scores_of_each(self.measured, before.metrics, after.metrics, comparison)
        return UnlearnRecord(
            model=str(model.name_or_path),
            revision=revision_of(model),
            original_weights=self.fingerprint,
            dtype=str(model.dtype).removeprefix("torch."),
            parameters=model.num_parameters(),
            parameters_removed=removed_parameters(model, mask, groups),
            still_computed=sum(int(group.shares_rows_with_kept(mask[group.name]).sum()) for group in groups),
            groups=counts(groups, mask),
            config=self.config,
            corpora={
                f"{use}_{part}": blocks.record()
                for part, pair in self.pairs.items()
                for use, blocks in (("forget", pair.forget), ("retain", pair.retain))
            },
            task=self.task,
            history=history,
            test=comparison.model_copy(update={"by_corpus": each}),
            continuations=tuple(
                Continuation(prompt=_shown(prompt, self.processor), before=one, after=other)
                for prompt, one, other in zip(self.texts, before.written, after.written, strict=True)
            ),
            versions=versions(),
            device=device_name(model),
            date=date.today().isoformat(),
            seconds=time.perf_counter() - self.start,
        )


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a model does at one time."""

    written: list[str]
    """Its continuations of the prompts."""
    metrics: dict[str, NextTokenMetrics]
    """On every corpus that is measured by itself and by nothing else."""


def _check_mask(mask: NeuronMask | None, own: MethodConfig, groups: tuple[NeuronGroup, ...], model: PreTrainedModel) -> None:
    """Refuse a mask that no method looks at, or that is another model's."""
    if mask is None:
        return
    if own.writes not in ("neurons", "lora"):
        raise ConfigError(
            f"`mask` says where writes=`neurons` or `lora` may write, got writes={own.writes!r}. Set `writes`, or "
            "leave the mask out."
        )
    mask.check_fits(groups, str(model.name_or_path))


def _prompts(given: Sequence[str] | None, test: Pair) -> list[Prompt]:
    """What to continue: what was given, or the first held-out tokens, up to the first answer where there is one."""
    if test.forget.task != "next token":
        return []
    if given is not None:
        return list(given)
    return [_beginning(cast(TokenBlocks, blocks)) for blocks in (test.forget, test.retain)]


def _beginning(blocks: TokenBlocks) -> Tensor:
    """The first tokens of the first block, up to its first answer where it has one."""
    answers = None if blocks.answers is None else blocks.answers[0].nonzero()
    return blocks.input_ids[0, : PROMPT_TOKENS if answers is None or not len(answers) else max(1, int(answers[0]))]


def _shown(prompt: Prompt, processor: PreTrainedTokenizerBase | Processor) -> str:
    """A prompt as text."""
    if isinstance(prompt, str):
        return prompt
    return str(cast(PreTrainedTokenizerBase, processor).decode(prompt, skip_special_tokens=True))
