"""What a model must be to be measured: with a position for each token of a block, and without an encoder beside it."""

import pytest
from toy_languages import NUMBERS, WORDS

import hf_untangle as untangle
from hf_untangle.data.batches import token_blocks
from hf_untangle.errors import ArchitectureError, CorpusError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.survey.tiny_models import tiny_model as tiny_model_of

SETTINGS = {"tokens": 512, "evaluation_tokens": 512, "block_size": 200, "progress": False}
CALLS = {
    "unlearn": lambda model, tokenizer: untangle.unlearn(model, NUMBERS, WORDS, tokenizer=tokenizer, **SETTINGS),
    "prune": lambda model, tokenizer: untangle.prune(model, WORDS, tokenizer=tokenizer, **SETTINGS),
    "evaluate": lambda model, tokenizer: untangle.evaluate(
        model, WORDS, tokenizer=tokenizer, tokens=512, block_size=200, progress=False
    ),
    "collect": lambda model, tokenizer: untangle.collect(
        model, token_blocks(WORDS, tokenizer, tokens=512, block_size=200), progress=False
    ),
    "metrics": lambda model, tokenizer: next_token_metrics(
        model, token_blocks(WORDS, tokenizer, tokens=512, block_size=200), progress=False
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_blocks_that_are_longer_than_the_positions_of_a_model_are_refused_with_their_number(
    tiny_model, tokenizer, family, call, untouched
):
    model = tiny_model(family)
    with untouched(model), pytest.raises(CorpusError) as caught:
        CALLS[call](model, tokenizer)
    assert str(caught.value) == (
        f"Blocks must be no longer than the 128 positions of this {type(model).__name__}, got blocks of 200 tokens. "
        "Pass block_size=128 or less."
    )


def test_a_model_that_runs_on_more_positions_than_it_states_is_not_stopped(tiny_model, tokenizer):
    assert CALLS["metrics"](tiny_model("llama"), tokenizer).tokens > 300


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model_type", ["t5", "bart"])
def test_an_encoder_with_a_decoder_is_refused_in_a_sentence(tokenizer, model_type, call, untouched):
    model = tiny_model_of(model_type, "sequence-to-sequence", vocab_size=258)
    with untouched(model), pytest.raises(ArchitectureError, match="is an encoder with a decoder, which also reads what"):
        CALLS[call](model, tokenizer)


def test_what_the_sentence_says_can_be_done_with_an_encoder_and_a_decoder():
    model = tiny_model_of("t5", "sequence-to-sequence")
    groups = untangle.neuron_groups(model)
    mask = untangle.NeuronMask.keep_all(groups, "tiny-t5")
    mask["encoder.block.0.layer.1.DenseReluDense.wo"][:8] = False
    with untangle.masked(model, mask):
        pass
    untangle.remove_(model, mask, groups)
    assert not model.encoder.block[0].layer[1].DenseReluDense.wo.weight[:, :8].any()
