"""Reading what a run needs: both corpora in all their parts, text of the model's own, and what else is measured."""

from collections.abc import Mapping
from typing import Any, cast

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import CorpusSource, Part, corpus, with_chat
from hf_untangle.data.images import ImageClasses, Processor
from hf_untangle.data.splits import PARTS
from hf_untangle.data.tokens import Task
from hf_untangle.data.two_corpora import sided
from hf_untangle.data.understood import parts_in_words
from hf_untangle.errors import CorpusError
from hf_untangle.evaluation.self_written import with_own_text
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.tasks import Opened, read_parts


def with_written_text(
    corpora: Opened,
    model: PreTrainedModel,
    processor: PreTrainedTokenizerBase | Processor,
    config: UnlearnConfig,
    progress: bool,
) -> Opened:
    """Let the model write what is retained of its own text.

    Args:
        corpora: What is forgotten, and what is retained.
        model: The model, before anything is taken out of it.
        processor: Makes its inputs.
        config: The settings.
        progress: Whether to say that text is being written.

    Returns:
        Both, with texts instead of `self`; those of images as they are.
    """
    gone, kept = corpora
    if isinstance(gone, ImageClasses) or isinstance(kept, ImageClasses):
        return corpora
    tokens: dict[Part, int] = {part: config.tokens if part == "train" else config.evaluation_tokens for part in PARTS}
    how = {"tokens": tokens, "unlike": gone, "seed": config.seed, "progress": progress}
    return gone, with_own_text(kept, model, cast(PreTrainedTokenizerBase, processor), **how)


def read_pairs(
    task: Task, corpora: Opened, processor: PreTrainedTokenizerBase | Processor, config: UnlearnConfig
) -> dict[Part, Pair]:
    """Read all three parts of both corpora, before anything long begins.

    Args:
        task: What the model predicts.
        corpora: What is forgotten, and what is retained.
        processor: Makes the model's inputs.
        config: The settings.

    Returns:
        The blocks of each part.

    Raises:
        CorpusError: Both corpora are the same.
    """
    pairs: dict[Part, Pair] = {part: read_parts(task, corpora, processor, part, config) for part in PARTS}
    if pairs["train"].forget.fingerprint == pairs["train"].retain.fingerprint:
        raise CorpusError(
            f"The forget and the retain corpus must differ, but both are `{corpora[0].name}` ({corpora[0].source}): no neuron "
            "can matter more to one than to the other. Choose another retain corpus."
        )
    return pairs


def read_also(
    also: Mapping[str, CorpusSource], processor: PreTrainedTokenizerBase | Processor, config: UnlearnConfig
) -> dict[str, TokenBlocks]:
    """Read what else is measured, all rows of it, before anything long begins.

    Args:
        also: Corpora by name.
        processor: The tokenizer.
        config: The settings.

    Returns:
        The blocks of each.
    """
    tokenizer = cast(PreTrainedTokenizerBase, processor)
    opened = {name: corpus(source, name=name, split="all") for name, source in also.items()}
    how = {"tokens": config.evaluation_tokens, "part": "test", "block_size": config.block_size, "packed": config.packed}
    return {name: token_blocks(sided(with_chat(one, config.chat), "forget"), tokenizer, **how) for name, one in opened.items()}


def lines_of(pairs: Mapping[Part, Pair]) -> list[str]:
    """Say what each corpus was taken for and how its parts came out, one line per corpus; nothing of images.

    Args:
        pairs: The blocks of each part.

    Returns:
        One line per corpus.
    """
    lines = []
    for use in ("forget", "retain"):
        parts: dict[Part, Any] = {part: getattr(pair, use) for part, pair in pairs.items()}
        if isinstance(parts["train"], TokenBlocks):
            counts_of = parts_in_words({part: blocks.documents for part, blocks in parts.items()})
            lines.append(f"{use}: {parts['train'].corpus.name} ({counts_of}); train: {parts['train'].understood}")
    return lines
