"""Next-token metrics on a model whose every logit is known, then on models of every family; continuations."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutput

from hf_untangle.errors import StatisticsError
from hf_untangle.evaluation import next_token
from hf_untangle.evaluation.generation import continuations
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics, relative_drop
from hf_untangle.survey.tiny_models import tiny_model as survey_model

VOCABULARY = 12


class OneHot(nn.Module):
    """A base model whose hidden state is the token itself."""

    def forward(self, input_ids: Tensor, **_: object) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=nn.functional.one_hot(input_ids, VOCABULARY).float())


class Counting(PreTrainedModel):
    """After token t it expects t + 1, and every further token half as likely as the one before."""

    config_class = PreTrainedConfig
    base_model_prefix = "model"

    def __init__(self) -> None:
        super().__init__(PreTrainedConfig.from_dict({"vocab_size": VOCABULARY}))
        self.model = OneHot()
        token = torch.arange(VOCABULARY)
        places = (token[None, :] - token[:, None] - 1) % VOCABULARY
        self.head = nn.Parameter(-math.log(2) * places.float())

    def get_decoder(self) -> nn.Module:
        return self.model

    def forward(self, input_ids: Tensor, **_: object) -> CausalLMOutput:
        return CausalLMOutput(logits=self.model(input_ids).last_hidden_state @ self.head)


def reference(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> NextTokenMetrics:
    """The metrics from all logits at once."""
    with torch.no_grad():
        output = model(ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100))
    known = mask[:, 1:] & mask[:, :-1]
    logits, labels = output.logits[:, :-1][known], ids[:, 1:][known]
    top10 = (logits.topk(10).indices == labels[:, None]).any(1)
    top1 = logits.argmax(1) == labels
    return NextTokenMetrics(len(labels), top1.double().mean().item(), top10.double().mean().item(), output.loss.item())


def assert_same(mine: NextTokenMetrics, theirs: NextTokenMetrics) -> None:
    assert (mine.tokens, mine.top1, mine.top10) == (theirs.tokens, pytest.approx(theirs.top1), pytest.approx(theirs.top10))
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-4)


def test_metrics_by_hand(blocks_of):
    # The places of the next tokens are 0, 0, 9 and 10, so two are the first and three are among the first ten.
    metrics = next_token_metrics(Counting(), blocks_of(torch.tensor([[0, 1, 2, 0, 11]])), progress=False)
    normalizer = math.log(2 - 2**-11)
    loss = (0 + 0 + 9 + 10) / 4 * math.log(2) + normalizer
    assert (metrics.tokens, metrics.top1, metrics.top10) == (4, 0.5, 0.75)
    assert metrics.loss == pytest.approx(loss)
    assert metrics.perplexity == pytest.approx(math.exp(loss))


def test_the_first_token_of_a_block_is_not_predicted(blocks_of):
    apart = next_token_metrics(Counting(), blocks_of(torch.tensor([[0, 1], [5, 6]])), progress=False)
    together = next_token_metrics(Counting(), blocks_of(torch.tensor([[0, 1, 5, 6]])), progress=False)
    assert (apart.tokens, apart.top1) == (2, 1.0)
    assert (together.tokens, together.top1) == (3, pytest.approx(2 / 3))


def test_padding_is_neither_predicted_nor_predicted_from(blocks_of):
    ids = torch.tensor([[0, 1, 2, 3], [7, 8, 0, 1], [1, 5, 6, 7]])
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False, True, True, True]])
    metrics = next_token_metrics(Counting(), blocks_of(ids, mask), progress=False)
    assert (metrics.tokens, metrics.top1) == (6, 1.0)


def test_positions_that_statistics_do_not_count_are_predicted_from_all_the_same(blocks_of):
    counted = torch.tensor([[False, True, True]])
    metrics = next_token_metrics(Counting(), blocks_of(torch.tensor([[0, 1, 2]]), counted=counted), progress=False)
    assert metrics.tokens == 2


def test_with_fewer_than_ten_tokens_in_the_vocabulary_all_are_among_the_first_ten(tiny_model, blocks_of):
    model = tiny_model("llama", vocab_size=5, eos_token_id=1, pad_token_id=None)
    assert next_token_metrics(model, blocks_of(torch.tensor([[0, 1, 2, 3, 4]])), progress=False).top10 == 1


def test_perplexity_is_infinite_where_it_overflows():
    assert NextTokenMetrics(1, 0.0, 0.0, 800.0).perplexity == math.inf
    assert NextTokenMetrics(1, 0.0, 0.0, math.log(7)).record() == {
        "tokens": 1,
        "top1": 0,
        "top10": 0,
        "loss": math.log(7),
        "perplexity": pytest.approx(7),
    }


def test_a_relative_drop_by_hand():
    assert relative_drop(0.5, 0.5) == 0
    assert relative_drop(0.5, 0.0) == 1
    assert relative_drop(0.5, 0.4) == pytest.approx(0.2)
    assert relative_drop(0.5, 0.6) == pytest.approx(-0.2)


def test_metrics_are_those_of_all_logits_at_once(model, blocks):
    metrics = next_token_metrics(model, blocks, batch_size=4, progress=False)
    assert_same(metrics, reference(model, blocks.input_ids, blocks.attention_mask))


def test_metrics_of_padded_blocks_are_those_of_all_logits_at_once(model, padded_blocks):
    metrics = next_token_metrics(model, padded_blocks, batch_size=4, progress=False)
    assert_same(metrics, reference(model, padded_blocks.input_ids, padded_blocks.attention_mask))
    assert metrics.tokens == 11 + 8 + 4 + 1 + 6 + 11


@pytest.mark.parametrize("model_type", ["llama4_text", "modernbert-decoder", "prophetnet"])
def test_where_the_head_does_not_run_alone_the_whole_model_does(model_type, blocks):
    model = survey_model(model_type)
    ids = replace(blocks, input_ids=blocks.input_ids % model.config.vocab_size)
    assert not next_token.head_runs_alone(model, ids.inputs(torch.device("cpu")))
    with torch.no_grad():
        logits = model(ids.input_ids).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), ids.input_ids[:, 1:].flatten())
    assert next_token_metrics(model, ids, progress=False).loss == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("chunk", [1, 258 * 7, 258 * 1000])
def test_the_size_of_a_chunk_changes_nothing(model, blocks, monkeypatch, chunk):
    whole = next_token_metrics(model, blocks, progress=False)
    monkeypatch.setattr(next_token, "CHUNK", chunk)
    assert_same(next_token_metrics(model, blocks, progress=False), whole)


def test_no_more_logits_than_a_chunk_are_ever_held(tiny_model, blocks, monkeypatch):
    model, sizes = tiny_model("llama"), []
    monkeypatch.setattr(next_token, "CHUNK", 258 * 7)
    model.lm_head.register_forward_hook(lambda _, __, logits: sizes.append(logits.numel()))
    next_token_metrics(model, blocks, progress=False)
    assert max(sizes) == 258 * 7


def test_a_head_that_caps_its_logits_still_does(tiny_model, blocks):
    capped, plain = tiny_model("gemma2"), tiny_model("gemma2", final_logit_softcapping=None)
    metrics = next_token_metrics(capped, blocks, progress=False)
    assert metrics.loss == pytest.approx(capped(blocks.input_ids, labels=blocks.input_ids).loss.item(), rel=1e-4)
    assert next_token_metrics(plain, blocks, progress=False).loss > metrics.loss + 0.1


def test_bfloat16_gives_nearly_the_same(model, blocks):
    whole = next_token_metrics(model, blocks, progress=False)
    assert next_token_metrics(model.bfloat16(), blocks, progress=False).loss == pytest.approx(whole.loss, rel=0.05)


@pytest.mark.parametrize("with_dropout", ["gpt2", "opt"])
def test_a_model_in_training_is_measured_as_it_runs_in_earnest(tiny_model, blocks, with_dropout):
    expected = next_token_metrics(tiny_model(with_dropout), blocks, progress=False)
    assert next_token_metrics(tiny_model(with_dropout).train(), blocks, progress=False) == expected


def test_evaluating_leaves_the_model_as_it_was(model, blocks, untouched):
    model.train()
    next(model.children()).eval()
    with untouched(model):
        next_token_metrics(model, blocks, progress=False)


def test_an_interruption_leaves_the_model_as_it_was(model, blocks, untouched, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model.get_output_embeddings(), "forward", interrupt)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        next_token_metrics(model, blocks, progress=False)


def test_a_base_model_with_a_forward_of_its_own_keeps_it(tiny_model, blocks):
    model = tiny_model("llama")
    plain = next_token_metrics(model, blocks, progress=False)
    original = model.model.forward
    model.model.forward = own = lambda *args, **kwargs: original(*args, **kwargs)
    assert next_token_metrics(model, blocks, progress=False) == plain
    assert model.model.forward is own


def test_a_loss_that_is_no_number_is_an_error(model, blocks):
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(StatisticsError, match="The loss on made must be a number, but it is NaN: .* Load it in float32 or"):
        next_token_metrics(model, blocks, progress=False)


def test_blocks_of_one_token_have_nothing_to_predict(tiny_model, blocks_of):
    with pytest.raises(StatisticsError, match="needs a block of at least two tokens, but made has none"):
        next_token_metrics(tiny_model("llama"), blocks_of(torch.tensor([[1], [2]])), progress=False)


def test_continuations_are_greedy_and_leave_the_prompt_out(model, tokenizer):
    prompts = ["def f(x):", "Once upon a time"]
    texts = continuations(model, tokenizer, prompts, max_new_tokens=5)
    ids = tokenizer(prompts[0], return_tensors="pt")["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert texts[0] == tokenizer.decode(ids[0, -5:], skip_special_tokens=True)
    assert texts == continuations(model, tokenizer, prompts, max_new_tokens=5)


@pytest.fixture
def transformers_log(monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    return caplog


def test_continuations_are_greedy_and_give_no_warning_whatever_the_model_would_generate_with(
    model, tokenizer, transformers_log, untouched
):
    prompt = ["a long prompt of more than seven tokens"]
    plain = continuations(model, tokenizer, prompt, max_new_tokens=5)
    sampling = {"do_sample": True, "temperature": 0.3, "top_p": 0.5, "max_length": 7, "num_beams": 3, "repetition_penalty": 9.0}
    model.generation_config = own = GenerationConfig(**sampling)
    model.train()
    with untouched(model):
        assert continuations(model, tokenizer, prompt, max_new_tokens=5) == plain
    assert model.generation_config is own
    assert not transformers_log.records


def test_without_prompts_there_are_no_continuations(tiny_model, tokenizer):
    assert continuations(tiny_model("llama"), tokenizer, []) == []
