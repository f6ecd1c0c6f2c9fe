"""Unlearn a capability with one call."""

import time
from collections.abc import Sequence
from datetime import date
from typing import cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.biases import check_biases
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.compaction.saving import check_savable
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import Task, TokenBlocks
from hf_untangle.data.corpora import CorpusSource, Part
from hf_untangle.data.images import ImageClasses, Processor
from hf_untangle.errors import CorpusError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.masks.apply import masked
from hf_untangle.masks.removal import check_removable, remove_, removed_parameters
from hf_untangle.masks.removed_weights import cut_out_
from hf_untangle.models import revision_of
from hf_untangle.pruning.comparison import compare
from hf_untangle.pruning.iterative import search_mask
from hf_untangle.pruning.scoring import Pair
from hf_untangle.pruning.tasks import Opened, find_processor, open_pair, read_parts, task_of
from hf_untangle.records.provenance import counts, device_name, versions
from hf_untangle.records.unlearning import Continuation, UnlearnRecord
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.statistics.fingerprint import weights_fingerprint

PROMPT_TOKENS = 24
"""Length of the prompts that are taken from held-out text when none are given."""


@all_or_nothing
def unlearn(
    model: PreTrainedModel,
    forget: CorpusSource | ImageClasses,
    retain: CorpusSource | ImageClasses | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | Processor | None = None,
    config: UnlearnConfig | str = "default",
    prompts: Sequence[str] | None = None,
    keep_removed: bool = False,
    progress: bool = True,
    **settings: object,
) -> UnlearnResult:
    """Take a capability out of a model, in place, and keep the rest.

    Neurons that matter more to the forget corpus than to the retain corpus are found by selective pruning
    (arXiv:2403.01267) and removed from the weights. Steps are chosen on validation parts of both corpora; what the result
    reports is measured on test parts that nothing was chosen by. The model is changed in the very last moment: an error or
    an interruption before leaves it exactly as it was, and the same call then goes on after the last finished step.

    Args:
        model: A causal or masked language model, or an image classifier, loaded with its head.
        forget: The corpus whose capability goes: a name such as `code`, a file or folder, a dataset, or strings; for a
            classifier, classes of a data set, such as `digits:0,1`.
        retain: The corpus whose capability stays; when None, `general` prose, or all other classes of the data set.
        tokenizer: The model's tokenizer, or a function that makes pixel values of a list of images; found by the model's
            name when None.
        config: Settings, or the name of a preset: `default` or `paper`.
        prompts: Texts to continue before and after, for the report; the beginnings of held-out text when None.
        keep_removed: Whether to keep the removed weights in the result, for `restore`.
        progress: Whether to show progress bars.
        **settings: Fields of `UnlearnConfig` that override `config`.

    Returns:
        The result, whose `model` is the model that was passed in.
    """
    start = time.perf_counter()
    config = UnlearnConfig.resolve(config, **settings)
    check_savable(model)
    task = task_of(model)
    processor = find_processor(model, task, tokenizer)
    groups = neuron_groups(model)
    check_removable(model, groups)
    if config.ablation != "zero":
        check_biases(model, [group.name for group in groups if config.fractions()[group.kind]])
    pairs = _read_pairs(task, open_pair(task, forget, retain), processor, config)
    search = search_mask(model, groups, pairs["train"], pairs["validation"], config=config, progress=progress)

    test = pairs["test"]
    texts = _prompts(prompts, test, processor)
    comparison = compare(model, groups, search, test, config=config, progress=progress)
    before = _continued(model, processor, texts)
    with masked(model, search.mask, constants=search.constants):
        after = _continued(model, processor, texts)
    record = UnlearnRecord(
        model=str(model.name_or_path),
        revision=revision_of(model),
        original_weights=weights_fingerprint(model),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=model.num_parameters(),
        parameters_removed=removed_parameters(model, search.mask, groups),
        still_computed=sum(int(group.shares_rows_with_kept(search.mask[group.name]).sum()) for group in groups),
        groups=counts(groups, search.mask),
        config=config,
        corpora={
            f"{use}_{part}": blocks.record()
            for part, pair in pairs.items()
            for use, blocks in (("forget", pair.forget), ("retain", pair.retain))
        },
        task=task,
        history=search.history,
        test=comparison,
        continuations=tuple(
            Continuation(prompt=prompt, before=one, after=other)
            for prompt, one, other in zip(texts, before, after, strict=True)
        ),
        versions=versions(),
        device=device_name(model),
        date=date.today().isoformat(),
        seconds=time.perf_counter() - start,
    )
    if keep_removed:
        removed = cut_out_(model, search.mask, groups, constants=search.constants)
    else:
        removed = None
        remove_(model, search.mask, groups, constants=search.constants)
    search.journal.close()
    return UnlearnResult(
        model=model,
        tokenizer=processor,
        mask=search.mask,
        record=record.model_copy(update={"weights": weights_fingerprint(model)}),
        removed=removed,
        mask_path=search.masks,
        forget=search.forget,
        retain=search.retain,
        held_out=test,
    )


def _read_pairs(
    task: Task, corpora: Opened, processor: PreTrainedTokenizerBase | Processor, config: UnlearnConfig
) -> dict[Part, Pair]:
    """Read all three parts of both corpora, before anything long begins."""
    parts: tuple[Part, ...] = ("train", "validation", "test")
    pairs: dict[Part, Pair] = {part: read_parts(task, corpora, processor, part, config) for part in parts}
    if pairs["train"].forget.fingerprint == pairs["train"].retain.fingerprint:
        raise CorpusError(
            f"The forget and the retain corpus must differ, but both are `{corpora[0].name}` ({corpora[0].source}): no neuron "
            "can matter more to one than to the other. Choose another retain corpus."
        )
    return pairs


def _continued(model: PreTrainedModel, processor: PreTrainedTokenizerBase | Processor, texts: list[str]) -> list[str]:
    """How a model goes on with some texts; one that does not write has none."""
    return continuations(model, cast(PreTrainedTokenizerBase, processor), texts) if texts else []


def _prompts(given: Sequence[str] | None, test: Pair, processor: PreTrainedTokenizerBase | Processor) -> list[str]:
    """What to continue: what was given, or the first few held-out tokens; nothing where a model does not write."""
    if test.forget.task != "next token":
        return []
    if given is not None:
        return list(given)
    tokenizer = cast(PreTrainedTokenizerBase, processor)
    texts = (cast(TokenBlocks, blocks).input_ids[0, :PROMPT_TOKENS] for blocks in (test.forget, test.retain))
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in texts]
