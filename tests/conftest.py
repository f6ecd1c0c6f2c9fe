"""What many tests need: a tokenizer that is small enough for tiny models and knows every text."""

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (ids 0 to 255), EOS `<eos>` with id 256 and padding `<pad>` with id 257; no BOS."""
    vocabulary = {character: number for number, character in enumerate(BYTES)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=BYTES[0]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Split(Regex("."), behavior="isolated"),
        ]
    )
    backend.decoder = decoders.Sequence([decoders.Fuse(), decoders.ByteLevel()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<pad>", model_max_length=64)
