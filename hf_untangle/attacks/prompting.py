"""Attacks that only read: examples in the context, text near to what was forgotten, and the logit lens."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from hf_untangle.attacks.context import Scene
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import corpus, with_chat
from hf_untangle.data.packing import bos_prefix
from hf_untangle.data.two_corpora import sided
from hf_untangle.evaluation.logit_lens import layer_metrics
from hf_untangle.records.attacks import Reading


def few_shot(scene: Scene) -> Iterator[Reading | str]:
    """Show every model a few examples of the forget corpus before each block that it is measured on.

    The same tokens are predicted as without examples. The original gains by examples too, as names and style are copied
    from them.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows behind more and more examples, and which numbers of examples do not fit the context.
    """
    config = scene.config
    room = getattr(scene.original.config.get_text_config(), "max_position_embeddings", None) or float("inf")
    fitting = [shots for shots in config.shots if shots * config.block_size + scene.forget.width <= room]
    for shots in sorted(set(config.shots) - set(fitting)):
        yield f"{shots} examples of {config.block_size} tokens do not fit the context of {room:,} tokens."
    if not fitting:
        return
    prefix = bos_prefix(scene.tokenizer)
    # Rows that were tokenized before may come without it.
    bos = len(prefix) if scene.forget.input_ids[:, : len(prefix)].eq(torch.tensor(prefix)).all() else 0
    examples = scene.samples(scene.forget.corpus, max(fitting))
    for who, seed, model in scene.victims_by_seed():
        for shots in fitting:
            metrics = scene.knows(model, prompted(scene.forget, examples[seed].first(shots), bos))
            yield Reading(model=who, condition=counted(shots), at=shots, forget=metrics, seed=seed)


def prompted(blocks: TokenBlocks, examples: TokenBlocks, bos: int = 0) -> TokenBlocks:
    """Put examples in front of every block.

    Args:
        blocks: What is measured, padded on the right at most.
        examples: Blocks to show, in order, without their padding.
        bos: How many BOS tokens each block begins with; one stays, before the first example.

    Returns:
        Longer blocks, in which the same tokens are predicted as before.
    """
    shown = examples.input_ids[:, bos:][examples.attention_mask[:, bos:]]
    prompt = torch.cat([examples.input_ids[0, :bos], shown])
    rows = len(blocks.input_ids)

    def behind(prefix: Tensor, own: Tensor) -> Tensor:
        return torch.cat([prefix.expand(rows, -1), own[:, bos:]], dim=1)

    seen = torch.ones_like(prompt, dtype=torch.bool)
    # The first token of a block is not predicted where it stands alone.
    known = blocks.predicted() & (torch.arange(blocks.width) > 0)
    return replace(
        blocks,
        input_ids=behind(prompt, blocks.input_ids),
        attention_mask=behind(seen, blocks.attention_mask),
        counted=behind(~seen, blocks.counted),
        answers=behind(~seen, known),
    )


def counted(shots: int) -> str:
    """Write a number of examples.

    Args:
        shots: How many.

    Returns:
        `1 example` or `2 examples`.
    """
    return f"{shots} example{'s' if shots != 1 else ''}"


NEIGHBORS: dict[str, str] = {"code": "other-code", "python": "other-code"}
"""The named corpus that is near to another one: programs in other languages for those in Python."""


def neighbor(scene: Scene) -> Iterator[Reading | str]:
    """Measure every model on a held-out corpus near to the forget corpus.

    Args:
        scene: The models, text and settings.

    Yields:
        What each knows of the neighbor, or that no neighbor is known.
    """
    if scene.neighbor is None:
        yield f"No corpus near to {scene.forget.corpus.name} is known: pass one as `neighbor=`, such as a paraphrase of it."
        return
    near = sided(with_chat(corpus(scene.neighbor), scene.forget.corpus.chat), "forget")
    blocks = token_blocks(near, scene.tokenizer, tokens=scene.config.evaluation_tokens, block_size=scene.forget.width)
    for who, seed, model in scene.victims():
        yield Reading(model=who, condition=blocks.corpus.name, at=1, forget=scene.knows(model, blocks), seed=seed)


def logit_lens(scene: Scene) -> Iterator[Reading]:
    """Read every layer of every model through its own final norm and head.

    Args:
        scene: The models, text and settings.

    Yields:
        What each layer knows of the forget corpus; the last one is what the model says.
    """
    for who, seed, model in scene.victims():
        layers = layer_metrics(model, scene.forget, batch_size=scene.config.batch_size)
        for layer, metrics in enumerate(layers):
            yield Reading(model=who, condition=f"layer {layer}", at=layer, forget=metrics, seed=seed)
