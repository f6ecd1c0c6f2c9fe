"""Two tiny languages, numbers and words in their order, and a tokenizer of both: what a tiny model learns in seconds."""

from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_untangle.randomness import random_state_kept

SPECIAL = ("<pad>", "<s>", "</s>", "<mask>")
NUMBERS = tuple(f"{number:02}" for number in range(40))
SENTENCE = "the cat sat on a mat and saw red birds fly over green hills while small dogs ran home"
WORDS = tuple(SENTENCE.split())
DOCUMENTS, LENGTH = 80, 16
STEPS, BATCH, LEARNING_RATE = 40, 8, 0.01


def documents(tokens: tuple[str, ...]) -> list[str]:
    """Write documents of one language: its tokens in their order, from another one on in each.

    Args:
        tokens: The tokens of the language.

    Returns:
        The documents, no two of them alike.
    """
    turns = range(DOCUMENTS)
    return [
        " ".join(tokens[(first + place) % len(tokens)] for place in range(LENGTH + first // len(tokens))) for first in turns
    ]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token a word, whose ids every tiny model has."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *dict.fromkeys(WORDS), *NUMBERS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", mask_token="<mask>")


def token_ids() -> Tensor:
    """The first tokens of every document of both languages, of shape [document, position]."""
    tokenizer: Any = tiny_tokenizer()
    return torch.tensor([tokenizer(text)["input_ids"][:LENGTH] for text in documents(NUMBERS) + documents(WORDS)])


def teach_(model: PreTrainedModel) -> PreTrainedModel:
    """Train a tiny model on both languages for a few steps.

    Args:
        model: A model that predicts tokens, which is trained in place.

    Returns:
        The same model.
    """
    ids, hides = token_ids(), not model.can_generate()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator().manual_seed(0)
    with random_state_kept(), torch.enable_grad():
        torch.manual_seed(0)
        for _ in range(STEPS):
            batch = ids[torch.randint(len(ids), (BATCH,), generator=generator)]
            hidden = torch.rand(batch.shape, generator=generator) < 0.2
            given = batch.masked_fill(hidden, SPECIAL.index("<mask>")) if hides else batch
            logits = model(input_ids=given, attention_mask=torch.ones_like(batch)).logits
            told, truth = (logits[hidden], batch[hidden]) if hides else (logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
            F.cross_entropy(told, truth).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.eval()
