"""The tokenizer of a model: given, or found beside it."""

from copy import deepcopy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import TokenizerError


@pytest.fixture
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=258, n_embd=8, n_layer=1, n_head=2, bos_token_id=256, eos_token_id=256))


@pytest.fixture
def saved(model, tmp_path) -> GPT2LMHeadModel:
    """The same model, loaded from a folder that has no tokenizer yet."""
    model.save_pretrained(tmp_path)
    return GPT2LMHeadModel.from_pretrained(tmp_path)


def test_a_tokenizer_that_fits_is_given_back(model, tokenizer):
    assert find_tokenizer(model, tokenizer) is tokenizer


def test_a_tokenizer_of_a_larger_vocabulary_is_an_error_with_both_sizes(model, tokenizer):
    larger = deepcopy(tokenizer)
    larger.add_tokens(["more"])
    with pytest.raises(TokenizerError, match="token ids up to 258, but the model embeds only 258 tokens"):
        find_tokenizer(model, larger)


def test_a_tokenizer_is_loaded_from_where_the_model_came_from(saved, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    found = find_tokenizer(saved)
    assert found("héllo")["input_ids"] == tokenizer("héllo")["input_ids"]


def test_a_folder_without_a_tokenizer_is_an_error(saved):
    with pytest.raises(TokenizerError, match="There is no tokenizer at .* Pass `tokenizer=`"):
        find_tokenizer(saved)


def test_a_folder_that_is_gone_is_an_error(model, tmp_path):
    model.config.name_or_path = str(tmp_path / "gone")
    with pytest.raises(TokenizerError, match="No tokenizer could be loaded from .*gone"):
        find_tokenizer(model)


def test_a_model_made_in_memory_needs_a_tokenizer(model):
    with pytest.raises(TokenizerError, match="does not say where it was loaded from. Pass `tokenizer=`"):
        find_tokenizer(model)
