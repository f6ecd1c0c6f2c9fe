"""Two languages that a tiny model learns in seconds, so that one can be taken from it and the other kept."""

import random
from collections.abc import Callable

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import token_blocks

DOCUMENTS = 400
BLOCK = 32
FOLLOWER = random.Random(5).sample(range(100), 100)
SMALL = {"tokens": 2048, "evaluation_tokens": 1024, "block_size": BLOCK, "batch_size": 16}
"""Settings that fit the toy languages."""
TOY_CONFIG = UnlearnConfig().with_settings(**SMALL, ffn_fraction=0.1, attention_fraction=0.05, steps=4)
UNLEARN = {
    "task": "unlearn",
    "model": "toy",
    "forget": "numbers.jsonl",
    "retain": "words.jsonl",
    "settings": {
        "tokens": 1024,
        "evaluation_tokens": 512,
        "block_size": BLOCK,
        "batch_size": 16,
        "ffn_fraction": 0.1,
        "steps": 1,
        "retain_budget": 0.5,
    },
    "prompts": [],
}
"""A recipe of one step for the folder `project`, whatever it costs."""
"""Four steps, which take most of the numbers from the model that knows both languages."""
SENTENCE = "the cat sat on a mat and saw red birds fly over green hills while small dogs ran home"


def number_walk(seed: int) -> str:
    """Twenty two-digit numbers, each the follower of the one before in a table that has to be learnt by heart."""
    number, walk = random.Random(seed).randrange(100), []
    for _ in range(20):
        walk.append(f"{number:02}")
        number = FOLLOWER[number]
    return " ".join(walk)


def word_salad(seed: int) -> str:
    """Twelve words in any order, whose spelling has to be learnt."""
    return " ".join(random.Random(seed).choices(SENTENCE.split(), k=12))


NUMBERS = [number_walk(seed) for seed in range(DOCUMENTS)]
WORDS = [word_salad(seed) for seed in range(DOCUMENTS)]


def trained_model(
    tiny_model: Callable[..., PreTrainedModel], tokenizer: PreTrainedTokenizerBase, *, numbers: bool = True, seed: int = 0
) -> PreTrainedModel:
    """A llama of two layers that has read the train parts of both languages, or of words alone; the seed is of their order."""
    model = tiny_model("llama", intermediate_size=256).train()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.08 * torch.randn(parameter.shape, generator=generator) if parameter.ndim > 1 else parameter * 0 + 1
    blocks = [token_blocks(texts, tokenizer, tokens=12_000, block_size=BLOCK).input_ids for texts in (NUMBERS, WORDS)]
    blocks = blocks if numbers else blocks[1:]
    generator = generator.manual_seed(seed) if seed else generator
    ids = torch.cat(blocks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(250):
        batch = ids[torch.randint(len(ids), (16,), generator=generator)]
        optimizer.zero_grad()
        model(batch, labels=batch).loss.backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()
