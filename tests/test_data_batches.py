"""Blocks of tokens from corpora of strings, where every token can be followed by hand."""

import pytest
from transformers import PreTrainedTokenizerFast

from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import part_of

TEXTS = [f"Document {number} speaks of {number * number} things." for number in range(60)]


def texts_of(tokenizer: PreTrainedTokenizerFast, blocks: TokenBlocks) -> list[str]:
    return [tokenizer.decode(row[mask]) for row, mask in zip(blocks.input_ids, blocks.attention_mask, strict=True)]


@pytest.fixture
def adding_bos(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, but one that puts BOS (id 258) before every text."""
    from copy import deepcopy

    from tokenizers.processors import TemplateProcessing

    changed = deepcopy(tokenizer)
    changed.add_special_tokens({"bos_token": "<bos>"})
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", changed.bos_token_id)]
    )
    return changed


def test_packed_blocks_are_full_and_hold_the_documents_joined_by_eos(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=300, block_size=32)
    assert blocks.input_ids.shape == (9, 32)
    assert blocks.attention_mask.all() and blocks.counted.all()
    train = [text for text in TEXTS if part_of(text) == "train"]
    assert "<eos>".join(train).startswith("".join(texts_of(tokenizer, blocks)))
