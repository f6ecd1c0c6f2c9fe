"""Repair a pruned model: train it on the retain corpus alone, while removed neurons stay removed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.configs.keywords import RepairSettings
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, CorpusSource, corpus, with_chat
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.data.two_corpora import two_corpora
from hf_untangle.data.understood import announce
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory
from hf_untangle.progress import one_bar, phase, plan_work, predict
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.tasks import task_of
from hf_untangle.pruning.work import seconds_per_token
from hf_untangle.records.compression import PruneRepairRecord
from hf_untangle.records.unlearning import RepairRecord, Scores
from hf_untangle.repairs.distillation import Teacher
from hf_untangle.repairs.methods import REPAIRS
from hf_untangle.repairs.training import train_


@checked_arguments
@all_or_nothing
def repair(
    model: PreTrainedModel | ModelName,
    mask: NeuronMask,
    retain: CorpusSource = "general",
    *,
    forget: CorpusSource | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    original: PreTrainedModel | ModelName | None = None,
    config: RepairConfig | str = "default",
    progress: bool = True,
    **settings: Unpack[RepairSettings],
) -> RepairRecord | PruneRepairRecord:
    """Train a pruned model on its retain corpus, in place, while its removed neurons are held at exactly zero.

    The training sees the train part of the retain corpus and nothing else. The corpora are measured before and after, on
    test parts. The model is written to in the very last moment: an error or an interruption before leaves it as it was.

    Args:
        model: A model whose neurons were removed. A name or path is loaded, and the record has the repaired `model`.
        mask: Which of them stayed.
        retain: The corpus to train on.
        forget: The corpus whose capability is gone, to see that it stays so; None after a compression, which has none.
        tokenizer: The model's tokenizer; found by the model's name when None.
        original: The model before pruning, or its name, which `distill` needs; loaded in the model's own dtype.
        config: Settings, or the name of a preset.
        progress: Whether to show progress bars.
        **settings: Fields of `RepairConfig` that override `config`.

    Returns:
        The settings, the scores before and after, and what it cost.

    Raises:
        MaskError: The mask is not this model's, or its neurons were not removed.
        ConfigError: A setting is unknown or out of range, `distill` has no original to learn from, or the model is no causal
            language model.
    """
    config = RepairConfig.resolve(config, **settings)
    given, model = model, opened(model)
    check_task(model)
    tokenizer = find_tokenizer(model, tokenizer)

    def read(source: Corpus) -> TokenBlocks:
        size = {"tokens": config.evaluation_tokens, "block_size": config.block_size}
        return held_out_blocks(source, tokenizer, part="test", **size).first

    if forget is None:
        kept = with_chat(corpus(retain), config.chat)
        test = read(kept)
    else:
        gone, kept = two_corpora(forget, retain, chat=config.chat)
        test = Pair(read(gone), read(kept))
    record = repair_measured(model, mask, test, kept, config, tokenizer=tokenizer, original=original, progress=progress)
    if model is not given:
        record.keep(model)
    return record


@all_or_nothing
@one_bar("repairing")
def repair_measured(
    model: PreTrainedModel,
    mask: NeuronMask | None,
    test: Pair | TokenBlocks,
    retain: CorpusSource,
    config: RepairConfig,
    *,
    tokenizer: PreTrainedTokenizerBase,
    original: PreTrainedModel | ModelName | None = None,
    progress: bool = True,
) -> RepairRecord | PruneRepairRecord:
    """Repair a model, as `repair` does, and measure it on blocks that are read already.

    Args:
        model: A model whose neurons were removed.
        mask: Which of them stayed; None where they are out of the tensors already.
        test: What to measure before and after: both corpora, or one after a compression.
        retain: The corpus to train on.
        config: The settings.
        tokenizer: The model's tokenizer.
        original: The model before pruning, or its name, which `distill` needs.
        progress: Whether to show progress bars.

    Returns:
        The settings, the scores before and after, and what it cost.

    Raises:
        MaskError: The mask is not this model's, or its neurons were not removed.
        ConfigError: `distill` has no original to learn from, or the model is no causal language model.
    """
    check_task(model)
    check_without_adapters(model)
    held: tuple[Callable[[Trainer], MaskCallback], ...] = ()
    if mask is not None:
        groups = neuron_groups(model)
        check_removed(model, mask, groups)
        held = (partial(MaskCallback, mask=mask, groups=groups),)
    tokens = config.steps * config.passes * config.batch_size * config.block_size
    blocks = token_blocks(retain, tokenizer, tokens=tokens, block_size=config.block_size, excerpt=None)
    announce(f"{blocks.corpus.name}: {blocks.understood}", progress=progress)
    _check_original(model, config, original)

    teacher: Teacher | None = None
    seconds = 0.0

    def train(trainee: nn.Module, compute: torch.dtype) -> None:
        nonlocal seconds
        start = time.perf_counter()
        train_(trainee, blocks, config, compute=compute, teacher=teacher, callbacks=held, progress=progress)
        seconds = time.perf_counter() - start
        phase("after")

    def measure(repaired: PreTrainedModel) -> Scores | NextTokenMetrics:
        if isinstance(test, Pair):
            return judge(repaired, test, batch_size=config.batch_size, progress=progress)
        return next_token_metrics(repaired, test, batch_size=config.batch_size, progress=progress)

    judged = (test.forget.tokens + test.retain.tokens if isinstance(test, Pair) else test.tokens) // place()[1]
    plan_work({"training": tokens // place()[1], "forward": 2 * judged + bool(config.distill) * blocks.tokens // place()[1]})
    if progress:
        predict(lambda: seconds_per_token(model, blocks))
    phase("before")
    before = measure(model)
    if config.distill and original is not None:
        phase("what the original predicts")
        teacher = _teacher(model, blocks, config, original, progress)
    phase("training")
    after, trained = REPAIRS[config.method](model, config, train, measure)
    record: Any = RepairRecord if isinstance(test, Pair) else PruneRepairRecord
    return record(
        settings=config.model_dump() | {"learning_rate": config.rate},
        corpus=blocks.record(),
        original=_name_of(original) if config.distill else None,
        tokens=tokens,
        parameters=trained,
        before=before,
        after=after,
        seconds=seconds,
    )


def check_removed(model: PreTrainedModel, mask: NeuronMask, groups: tuple[NeuronGroup, ...]) -> None:
    """Refuse a model in which the mask's neurons are still there.

    Args:
        model: The model.
        mask: Which neurons stayed.
        groups: The neuron groups of the model.

    Raises:
        MaskError: The mask is not this model's, or some of its weights are not zero.
    """
    check_in_memory(model, groups)
    if not all_zero(held_parameters(model, mask, groups)):
        raise MaskError(
            f"The neurons that the mask removes must be zero in the weights of `{model.name_or_path}`, but they are not. "
            "Call `remove_(model, mask, groups)` first, or repair the model that was pruned with this mask."
        )


def check_task(model: PreTrainedModel, what: str = "Repair trains") -> None:
    """Refuse a model that does not predict the next token.

    Args:
        model: The model.
        what: What needs one, in words.

    Raises:
        ConfigError: It predicts something else.
    """
    if task_of(model) != "next token":
        raise ConfigError(
            f"{what} causal language models, but {type(model).__name__} predicts the {task_of(model)}. Train it with "
            "your own Trainer, and add `MaskCallback(trainer, mask)` so that what was removed stays removed."
        )


def _check_original(model: PreTrainedModel, config: RepairConfig, original: PreTrainedModel | ModelName | None) -> None:
    """Refuse to learn from no model, or from the one that learns."""
    if not config.distill:
        return
    if original is None:
        raise ConfigError(
            f"distill={config.distill:g} learns from the model before pruning, but none was given. Pass `original=`, a model "
            "or its name, or leave distill at 0."
        )
    if original is model:
        raise ConfigError(
            "The original must be the model before pruning, got the pruned model itself. Load the original a second time."
        )


def _teacher(
    model: PreTrainedModel, blocks: TokenBlocks, config: RepairConfig, original: PreTrainedModel | ModelName, progress: bool
) -> Teacher:
    """What the original predicts of the training blocks; where its name was given, it leaves memory before the training."""
    loaded: Any = opened(original, dtype=model.dtype)
    return Teacher.of(
        loaded.to(model.device),
        blocks,
        top=config.distill_top,
        temperature=config.distill_temperature,
        batch_size=config.batch_size,
        progress=progress,
    )


def _name_of(original: PreTrainedModel | ModelName | None) -> str | None:
    """What the original is called."""
    if original is None:
        return None
    return str(original if isinstance(original, ModelName) else original.name_or_path)
