"""Does it matter for a mask whether the forget corpus is text or chat? SmolLM2-Instruct, statistics at answer tokens.

    python benchmarks/chat_mask.py

The same files of the Python standard library are read three ways: as packed text; as chats through the model's template of
which answers alone count, where the beginning of a file is given and its continuation is the answer; and as those chats with
every token counted. Each gives one mask by the default importance and score, against the prose of this package as text.
"""

from dataclasses import replace

import hf_untangle as untangle
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.importance.observations import Observations
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.importance.scores import Epsilon, ratio
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like, remove_top

DOCUMENTS, TOKENS, FRACTION = 80, 12_288, 0.03
START, LENGTH = 300, 1_200


def jaccard(one: NeuronMask, other: NeuronMask) -> float:
    """Neurons that both masks remove, of those that either removes."""
    both = sum(int((~kept & ~other[name]).sum()) for name, kept in one.items())
    return both / (one.removed() + other.removed() - both)


def main() -> None:
    """Print the table."""
    model, tokenizer = untangle.load("smollm2")
    groups = untangle.neuron_groups(model)
    texts = [text[:LENGTH] for text in untangle.corpus("code", prefer="embedded").documents("train") if len(text) > LENGTH]
    texts = texts[: 2 * DOCUMENTS]

    def blocks_of(rows: list, name: str) -> TokenBlocks:
        corpus = untangle.corpus(rows, split="all", name=name)
        return token_blocks(corpus, tokenizer, tokens=TOKENS, block_size=512, excerpt=None)

    def chats(some: list[str]) -> list[dict]:
        ask = "Continue this Python file:\n"
        return [
            {
                "prompt": [{"role": "user", "content": ask + text[:START]}],
                "completion": [{"role": "assistant", "content": text[START:]}],
            }
            for text in some
        ]

    first, second = texts[:DOCUMENTS], texts[DOCUMENTS:]
    chat = blocks_of(chats(first), "chats")
    read = {
        "text": blocks_of(first, "text"),
        "other text": blocks_of(second, "other text"),
        "chat, answers": chat,
        "chat, other answers": blocks_of(chats(second), "other chats"),
        "chat, every token": replace(chat, counted=chat.attention_mask, answers=None),
    }
    rms = IMPORTANCE["rms"]
    kept = untangle.collect(model, "general", tokenizer=tokenizer, max_tokens=TOKENS, progress=False)
    masks = {}
    for name, blocks in read.items():
        seen = untangle.collect(model, blocks, groups=groups, progress=False)
        scores = {
            group.name: ratio(rms(Observations(seen[group.name])), rms(Observations(kept[group.name])), Epsilon(0.1, True))
            for group in groups
        }
        masks[name] = remove_top(
            NeuronMask.keep_all(groups, str(model.name_or_path)), scores, groups, {"ffn": FRACTION, "attention": FRACTION}
        )
        print(f"{name}: {blocks.understood}; {int(blocks.counted.sum()):,} tokens count", flush=True)
    masks["random, as many in every layer"] = random_like(masks["chat, answers"], 0)
    print(f"\n{masks['text'].removed():,} neurons removed by each mask\n\n| masks | Jaccard |\n|---|---|")
    pairs = [
        ("text", "other text"),
        ("chat, answers", "chat, other answers"),
        ("text", "chat, answers"),
        ("chat, every token", "chat, answers"),
        ("text", "chat, every token"),
        ("text", "random, as many in every layer"),
    ]
    for one, other in pairs:
        print(f"| {one}; {other} | {jaccard(masks[one], masks[other]):.3f} |")


if __name__ == "__main__":
    main()
