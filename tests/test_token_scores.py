"""What a model says of every token: the same as its logits, in one pass, whatever the batch."""

from dataclasses import fields

import pytest
import torch
from toy_languages import NUMBERS

from hf_untangle.data.answers import answer_blocks, joined, second_halves
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.documents import IGNORED
from hf_untangle.errors import CorpusError, StatisticsError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.evaluation.token_scores import TokenScores, token_scores


def same(one: TokenScores, other: TokenScores) -> bool:
    """Whether two scores agree up to rounding."""
    return all(
        torch.allclose(getattr(one, field.name).double(), getattr(other, field.name).double(), atol=2e-5)
        for field in fields(one)
    )


def test_scores_are_those_of_the_logits(tiny_model, blocks):
    model = tiny_model("llama")
    with torch.no_grad():
        logs = model(blocks.input_ids).logits.log_softmax(-1)
    for row, score in enumerate(token_scores(model, blocks, progress=False)):
        tokens, here = blocks.input_ids[row, 1:], logs[row, :-1]
        assert torch.equal(score.tokens, tokens)
        assert torch.equal(score.best[:, 0], here.argmax(-1))
        torch.testing.assert_close(score.log_probabilities, here.gather(1, tokens[:, None])[:, 0])
        means = (here.exp() * here).sum(-1)
        torch.testing.assert_close(score.means, means)
        variances = (here.exp() * (here - means[:, None]).square()).sum(-1)
        torch.testing.assert_close(score.deviations, variances.sqrt(), rtol=1e-3, atol=1e-3)


def test_they_agree_with_the_metrics_of_next_tokens(tiny_model, padded_blocks):
    model = tiny_model("gpt2")
    scores, metrics = (
        token_scores(model, padded_blocks, progress=False),
        next_token_metrics(model, padded_blocks, progress=False),
    )
    logs = torch.cat([score.log_probabilities for score in scores])
    assert len(logs) == metrics.tokens
    assert float(-logs.mean()) == pytest.approx(metrics.loss, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_batch_does_not_matter_and_the_model_stays_as_it_was(tiny_model, padded_blocks, batch_size, untouched):
    model = tiny_model("llama")
    with untouched(model):
        found = token_scores(model, padded_blocks, batch_size=batch_size, progress=False)
    expected = token_scores(model, padded_blocks, batch_size=6, progress=False)
    assert [len(score.tokens) for score in found] == [11, 8, 4, 1, 6, 11]
    assert all(map(same, found, expected))


def test_the_share_of_each_process_comes_together_in_order(tiny_model, blocks, monkeypatch):
    model = tiny_model("llama")
    expected = token_scores(model, blocks, progress=False)
    shares = [expected[number::4] for number in range(4)]
    monkeypatch.setattr("hf_untangle.evaluation.token_scores.together", lambda work: shares)
    assert all(map(same, token_scores(model, blocks, progress=False), expected))


def test_logits_that_are_no_numbers_are_refused(tiny_model, blocks):
    model = tiny_model("llama")
    model.lm_head.weight.data[3] = torch.nan
    with pytest.raises(StatisticsError, match="some are NaN: the model's logits are not finite"):
        token_scores(model, blocks, progress=False)


def test_an_answer_is_scored_as_in_the_text_that_it_is_part_of(taught, tokenizer):
    pair = answer_blocks(["the cat", "the small dogs ran"], ["sat on a mat", "home"], tokenizer)
    assert [len(one.tokens) for one in token_scores(taught, pair, progress=False)] == [len(" sat on a mat"), len(" home")]
    text = tokenizer("the cat sat on a mat", return_tensors="pt")["input_ids"]
    logs = taught(text).logits.log_softmax(-1)[0, :-1].gather(1, text[0, 1:, None])[:, 0]
    torch.testing.assert_close(
        token_scores(taught, pair, progress=False)[0].log_probabilities, logs[-len(" sat on a mat") :].detach()
    )


def test_batches_of_answers_are_no_wider_than_they_must_be(tokenizer):
    blocks = answer_blocks(["a", "a long prompt"], ["b", "and a long answer"], tokenizer)
    assert [batch.width for batch in blocks.batches(1)] == [len("a b"), len("a long prompt and a long answer")]
    assert [batch.tokens for batch in blocks.batches(1)] == [2, 18]


def test_the_loss_of_a_model_on_answers_is_on_their_tokens_alone(tokenizer):
    blocks = answer_blocks(["ab"], ["cd"], tokenizer)
    assert (blocks.labels() == IGNORED).tolist() == [[True, True, False, False, False]]


def test_a_space_joins_prompt_and_answer_where_there_is_none():
    assert [joined("a", "b"), joined("a ", "b"), joined("a\n", "b"), joined("a", " b"), joined("", "b")] == [
        "a b",
        "a b",
        "a\nb",
        "a b",
        "b",
    ]


def test_the_beginning_of_a_prompt_goes_where_the_model_has_no_room(tokenizer):
    blocks = answer_blocks(["x" * 100], ["y" * 20], tokenizer)
    assert blocks.width == tokenizer.model_max_length == 64
    assert int(blocks.answers.sum()) == 21


@pytest.mark.parametrize(("prompt", "answer"), [("a", ""), ("a", "b" * 64)])
def test_an_answer_that_cannot_be_predicted_is_refused(tokenizer, prompt, answer):
    with pytest.raises(CorpusError, match="An answer needs a token before it and 1 to 63 tokens of its own"):
        answer_blocks([prompt], [answer], tokenizer)


def test_prompts_and_answers_come_in_pairs(tokenizer):
    with pytest.raises(CorpusError, match="2 prompts and 1 answers"):
        answer_blocks(["a", "b"], ["c"], tokenizer)


def test_second_halves_are_answers_to_the_first(blocks, padded_blocks):
    assert second_halves(blocks).answers.sum(1).tolist() == [6] * 6
    halves = second_halves(padded_blocks)
    assert halves.answers.sum(1).tolist() == [6, 4, 2, 1, 3, 6]
    assert not (halves.answers & ~padded_blocks.attention_mask).any()


def test_documents_of_one_token_have_no_halves(blocks_of):
    ids = torch.tensor([[1, 2, 3], [4, 257, 257]])
    assert len(second_halves(blocks_of(ids, ids != 257)).input_ids) == 1
    with pytest.raises(CorpusError, match="must have two tokens to be continued"):
        second_halves(blocks_of(torch.tensor([[1]])))


def test_halves_of_a_corpus_are_halves_of_its_documents(tokenizer):
    blocks = token_blocks(NUMBERS, tokenizer, tokens=200, block_size=64, packed=False)
    assert torch.equal(second_halves(blocks).answers.sum(1), blocks.attention_mask.sum(1) // 2)
