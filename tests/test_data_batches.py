"""Blocks of tokens, from texts in which every token can be followed by hand."""

import json
import logging
from collections.abc import Iterable, Iterator
from copy import deepcopy

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus, part_of
from hf_untangle.errors import ConfigError, CorpusError

TEXTS = [f"Document {number} speaks of {number * number} things." for number in range(60)]
TRAIN = list(corpus(TEXTS).documents("train"))
LONG = next(
    text for text in ("".join(TEXTS[number:]) for number in range(50)) if text in corpus([text, *TEXTS]).documents("train")
)


@pytest.fixture
def tokenizer_with_bos(tokenizer):
    """The tokenizer, but with a BOS (id 258) that it puts before every text by itself."""
    changed = deepcopy(tokenizer)
    changed.add_special_tokens({"bos_token": "<bos>"})
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", changed.bos_token_id)]
    )
    return changed


def in_train(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if part_of(text) == "train"]


def counting(texts: Iterable[str], read: list[str]) -> Iterator[str]:
    for text in texts:
        read.append(text)
        yield text


def test_packed_blocks_are_the_documents_joined_by_eos_and_cut(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=300, block_size=32)
    assert blocks.input_ids.shape == (9, 32)
    assert "<eos>".join(TRAIN).startswith(tokenizer.decode(blocks.input_ids.flatten()))


def test_packed_blocks_have_no_padding_and_every_position_counts(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=300, block_size=32)
    assert blocks.attention_mask.all()
    assert blocks.counted.all()
    assert blocks.tokens == 9 * 32


def test_two_short_documents_by_hand(tokenizer):
    first, second = "ab", "cd"
    blocks = token_blocks(corpus([first, second], split="all"), tokenizer, tokens=5, block_size=5)
    ids = tokenizer.get_vocab()
    expected = [ids[first[0]], ids[first[1]], ids["<eos>"], ids[second[0]], ids[second[1]]]
    assert blocks.input_ids.tolist() == [expected]


def test_without_an_eos_documents_are_joined_by_nothing(tokenizer):
    bare = deepcopy(tokenizer)
    bare.eos_token = None
    blocks = token_blocks(TEXTS, bare, tokens=300, block_size=32)
    assert "".join(TRAIN).startswith(bare.decode(blocks.input_ids.flatten()))


def test_the_budget_is_rounded_down_to_whole_blocks_but_to_one_at_least(tokenizer):
    assert token_blocks(TEXTS, tokenizer, tokens=95, block_size=32).input_ids.shape == (2, 32)
    assert token_blocks(TEXTS, tokenizer, tokens=1, block_size=32).input_ids.shape == (1, 32)


def test_no_more_documents_are_read_than_the_budget_needs(tokenizer):
    read: list[str] = []
    endless = (f"text {number}" for number in range(10**9))
    blocks = token_blocks(counting(endless, read), tokenizer, tokens=6_400, block_size=32)
    with_eos = [len(text) + 1 for text in in_train(read)]
    assert sum(with_eos[: blocks.documents]) >= 6_400 > sum(with_eos[: blocks.documents - 1])
    # Read ahead is only what could have been needed if the documents had no EOS between them.
    assert sum(map(len, in_train(read)[:-1])) < 6_400


def test_a_document_longer_than_the_budget_is_cut(tokenizer):
    blocks = token_blocks([LONG, *TEXTS], tokenizer, tokens=64, block_size=32, excerpt=None)
    assert blocks.documents == 1
    assert tokenizer.decode(blocks.input_ids.flatten()) == LONG[:64]


def test_of_a_long_document_only_the_middle_is_taken(tokenizer):
    blocks = token_blocks([LONG, *TEXTS], tokenizer, tokens=64, block_size=32, excerpt=20)
    start = (len(LONG) - 20) // 2
    read = tokenizer.decode(blocks.input_ids.flatten())
    assert read.startswith(LONG[start : start + 20] + "<eos>")
    assert all(len(excerpt) == 20 for excerpt in read.split("<eos>")[:-1])
    assert blocks.documents == 4


def test_an_excerpt_is_all_of_a_document_that_is_no_longer(tokenizer):
    length = max(map(len, TEXTS))
    excerpts = token_blocks(TEXTS, tokenizer, tokens=300, block_size=32, excerpt=length)
    whole = token_blocks(TEXTS, tokenizer, tokens=300, block_size=32, excerpt=None)
    assert excerpts.fingerprint == whole.fingerprint


def test_a_model_gets_an_attention_mask_only_where_there_is_padding(tokenizer):
    cpu = torch.device("cpu")
    packed = token_blocks(TEXTS, tokenizer, tokens=64, block_size=32)
    padded = token_blocks(TEXTS, tokenizer, tokens=500, block_size=64, packed=False)
    assert set(packed.inputs(cpu)) == {"input_ids"}
    assert torch.equal(packed.inputs(cpu)["input_ids"], packed.input_ids)
    assert torch.equal(padded.inputs(cpu)["attention_mask"], padded.attention_mask.long())


def test_a_tokenizer_that_adds_bos_has_it_before_every_block(tokenizer_with_bos):
    blocks = token_blocks(TEXTS, tokenizer_with_bos, tokens=96, block_size=32)
    assert blocks.input_ids[:, 0].tolist() == [258, 258, 258]
    assert "<eos>".join(TRAIN).startswith(tokenizer_with_bos.decode(blocks.input_ids[:, 1:].flatten()))


def test_bos_counts_or_not_as_asked(tokenizer_with_bos):
    counted = token_blocks(TEXTS, tokenizer_with_bos, tokens=96, block_size=32)
    dropped = token_blocks(TEXTS, tokenizer_with_bos, tokens=96, block_size=32, bos="drop")
    assert counted.counted.all()
    assert dropped.attention_mask.all()
    assert not dropped.counted[:, 0].any() and dropped.counted[:, 1:].all()
    assert (counted.tokens, dropped.tokens) == (96, 93)


def test_dropping_bos_changes_nothing_where_the_tokenizer_has_none(tokenizer):
    assert token_blocks(TEXTS, tokenizer, tokens=96, block_size=32, bos="drop").counted.all()


def test_unpacked_each_document_has_a_block_padded_on_the_right(tokenizer):
    documents = ["one", "three", "eleven", "twenty", "a hundred", "seven"]
    blocks = token_blocks(corpus(documents, split="all"), tokenizer, tokens=10_000, block_size=8, packed=False)
    lengths = [min(len(document), 8) for document in documents]
    assert blocks.attention_mask.sum(1).tolist() == lengths
    assert torch.equal(blocks.counted, blocks.attention_mask)
    assert (blocks.input_ids[~blocks.attention_mask] == tokenizer.pad_token_id).all()
    kept = [tokenizer.decode(row[mask]) for row, mask in zip(blocks.input_ids, blocks.attention_mask, strict=True)]
    assert kept == [document[:8] for document in documents]


def test_unpacked_documents_are_read_until_the_budget_is_met(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=70, block_size=20, packed=False)
    assert blocks.input_ids.shape == (4, 20)
    assert blocks.documents == 4


def test_unpacked_blocks_begin_with_bos_too(tokenizer_with_bos):
    blocks = token_blocks(TEXTS, tokenizer_with_bos, tokens=40, block_size=20, packed=False, bos="drop")
    assert blocks.input_ids[:, 0].tolist() == [258, 258]
    assert blocks.tokens == 38


def test_batches_are_the_blocks_in_order(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=7 * 16, block_size=16)
    batches = list(blocks.batches(3))
    assert [len(batch.input_ids) for batch in batches] == [3, 3, 1]
    assert torch.equal(torch.cat([batch.input_ids for batch in batches]), blocks.input_ids)
    assert torch.equal(torch.cat([batch.counted for batch in batches]), blocks.counted)
    assert sum(batch.tokens for batch in batches) == blocks.tokens


def test_parts_share_no_document(tokenizer):
    texts = {
        part: tokenizer.decode(token_blocks(TEXTS, tokenizer, tokens=200, part=part, block_size=16).input_ids.flatten())
        for part in ("train", "validation", "test")
    }
    for part, text in texts.items():
        assert set(text.split("<eos>")[:-1]) <= set(corpus(TEXTS).documents(part))


def test_the_fingerprint_is_the_same_for_the_same_tokens_only(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=96, block_size=32)
    again = token_blocks(iter(TEXTS), tokenizer, tokens=96, block_size=32)
    other = token_blocks(TEXTS, tokenizer, tokens=96, block_size=32, part="test")
    reshaped = token_blocks(TEXTS, tokenizer, tokens=96, block_size=16)
    assert len(blocks.fingerprint) == 16 and int(blocks.fingerprint, 16) >= 0
    assert blocks.fingerprint == again.fingerprint
    assert len({blocks.fingerprint, other.fingerprint, reshaped.fingerprint}) == 3


def test_the_fingerprint_tells_whether_bos_counts(tokenizer_with_bos):
    counted = token_blocks(TEXTS, tokenizer_with_bos, tokens=96, block_size=32)
    dropped = token_blocks(TEXTS, tokenizer_with_bos, tokens=96, block_size=32, bos="drop")
    assert counted.fingerprint != dropped.fingerprint


def test_the_record_says_where_the_tokens_come_from_and_fits_json(tokenizer):
    blocks = token_blocks(corpus(TEXTS), tokenizer, tokens=96, part="test", block_size=32)
    assert json.loads(json.dumps(blocks.record())) == {
        "corpus": "strings",
        "origin": "strings",
        "source": "strings that were passed in",
        "license": "unknown",
        "part": "test",
        "documents": blocks.documents,
        "blocks": 3,
        "tokens": 96,
        "fingerprint": blocks.fingerprint,
    }


def test_a_part_with_fewer_tokens_than_asked_for_gives_what_it_has_and_says_so(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, "hf_untangle"):
        blocks = token_blocks(TEXTS, tokenizer, tokens=100_000, block_size=32)
    available = len("<eos>".join(TRAIN)) - 4 * len(TRAIN) + 5
    assert blocks.tokens == available // 32 * 32
    assert f"has {blocks.tokens} of the 100000 tokens that were asked for" in caplog.text


def test_a_budget_that_is_met_gives_no_warning(tokenizer, caplog):
    token_blocks(TEXTS, tokenizer, tokens=100, block_size=32)
    assert not caplog.records


def test_documents_longer_than_the_context_of_the_model_give_no_warning(tokenizer, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    fresh = deepcopy(tokenizer)
    fresh.deprecation_warnings = {}  # transformers warns once for each tokenizer
    token_blocks([LONG], fresh, tokens=64, block_size=32)
    assert not caplog.records
    fresh(LONG)
    assert "longer than the specified maximum" in caplog.text


def test_too_few_tokens_for_one_block_is_an_error_that_counts_them(tokenizer):
    with pytest.raises(CorpusError, match=r"The train part of corpus `strings` has 6 tokens, too few for one"):
        token_blocks(["hello"], tokenizer, block_size=32)


@pytest.mark.parametrize("packed", [True, False])
def test_an_empty_corpus_is_an_error(tokenizer, packed):
    with pytest.raises(CorpusError, match="has 0 tokens, too few for one block"):
        token_blocks([" \n"], tokenizer, packed=packed)


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"tokens": -5}, {"block_size": 0}, {"block_size": 1}, {"excerpt": 0}])
def test_no_tokens_or_no_room_for_any_is_an_error(tokenizer_with_bos, wrong):
    with pytest.raises(ConfigError, match="must have room for at least one token"):
        token_blocks(TEXTS, tokenizer_with_bos, **wrong)


def test_a_batch_size_of_zero_is_an_error(tokenizer):
    blocks = token_blocks(TEXTS, tokenizer, tokens=32, block_size=32)
    with pytest.raises(ConfigError, match="batch_size=0"):
        next(blocks.batches(0))
