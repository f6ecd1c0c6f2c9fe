"""Repair: what the retain corpus lost comes back, what was removed does not."""

from copy import deepcopy
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from toy_languages import BLOCK, NUMBERS, TOY_CONFIG, WORDS
from transformers import AutoConfig, AutoModelForMaskedLM

import hf_untangle as untangle
from hf_untangle.architecture.inference_mode import forward_replaced
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.repair import LEARNING_RATE
from hf_untangle.data.corpora import corpus
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.errors import ConfigError, MaskError, StatisticsError
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair
from hf_untangle.repairs import methods, training
from hf_untangle.repairs.distillation import Teacher, mixed_target_loss

SMALL: dict[str, Any] = {"steps": 30, "step_tokens": 512, "block_size": BLOCK, "batch_size": 16, "evaluation_tokens": 1024}
METHODS: list[dict[str, Any]] = [{"method": "lora", "learning_rate": 5e-3}, {"method": "full", "learning_rate": 1e-3}]
pytestmark = pytest.mark.filterwarnings("ignore:The PEFT config's `base_model_name_or_path` was renamed:UserWarning")


@pytest.fixture
def model(strongly_pruned):
    """A copy of the pruned model."""
    return deepcopy(strongly_pruned[0])


@pytest.fixture
def mask(strongly_pruned):
    """Which of its neurons stayed."""
    return strongly_pruned[1]


@pytest.fixture
def repair(model, mask, tokenizer):
    """Repair the pruned model on words, unless told otherwise."""

    def call(**settings):
        defaults = {"forget": NUMBERS, "retain": WORDS, "tokenizer": tokenizer, "progress": False}
        return untangle.repair(model, mask, **defaults | SMALL | settings)

    return call


@pytest.fixture(scope="module")
def test_pair(tokenizer):
    """The test parts of both languages."""
    read = {"tokens": 1024, "part": "test", "block_size": BLOCK}
    return Pair(*(held_out_blocks(corpus(texts), tokenizer, **read).first for texts in (NUMBERS, WORDS)))


def zero_where_removed(model, mask) -> bool:
    return all_zero(held_parameters(model, mask, neuron_groups(model)))


@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_retain_comes_back_and_removed_neurons_stay_at_exactly_zero(repair, model, mask, how):
    record = repair(**how)
    assert record.after.retain.loss < record.before.retain.loss
    assert zero_where_removed(model, mask)
    assert not any("lora" in name for name, _ in model.named_modules()), "the result is an ordinary model"


@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_the_scores_are_those_of_the_model_before_and_after(repair, model, strongly_pruned, test_pair, how):
    record = repair(**how, steps=3)
    for scores, which in ((record.before, strongly_pruned[0]), (record.after, model)):
        assert scores == judge(which, test_pair, batch_size=16, progress=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_weights_keep_their_dtype_and_their_zeros(repair, model, mask, how, dtype):
    before = {name: value.clone() for name, value in model.to(dtype).state_dict().items()}
    repair(**how, steps=4)
    assert {value.dtype for value in model.state_dict().values()} == {dtype}
    assert zero_where_removed(model, mask)
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_several_passes_a_step_give_the_weights_that_one_gives(repair, model, strongly_pruned):
    repair(method="full", steps=2, batch_size=16)
    together = deepcopy(model.state_dict())
    model.load_state_dict(strongly_pruned[0].state_dict())
    repair(method="full", steps=2, batch_size=4)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, together[name], rtol=0, atol=2e-5)


def random_numbers() -> tuple[list[int], list[int]]:
    """The states of the generators of NumPy and torch."""
    numpy_state: Any = np.random.get_state()
    return numpy_state[1].tolist(), torch.get_rng_state().tolist()


def test_modes_flags_and_random_numbers_are_as_they_were(repair, model):
    model.train()
    model.model.layers[0].eval()
    model.model.norm.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    states = random_numbers()
    for how in METHODS:
        repair(**how, steps=1)
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert random_numbers() == states


@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_the_same_call_gives_the_same_model(repair, model, strongly_pruned, how):
    first = repair(**how, steps=3)
    weights = deepcopy(model.state_dict())
    model.load_state_dict(strongly_pruned[0].state_dict())
    assert repair(**how, steps=3).after == first.after
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


module = import_module("hf_untangle.repairs.repair")
FAILURES = [(module, "judge", 1), (module, "judge", 2), (module, "train_", 1), (training, "Trainer", 1)]


@pytest.mark.parametrize(("module", "function", "call"), FAILURES)
@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_an_interruption_leaves_the_model_as_it_was(repair, model, untouched, monkeypatch, how, module, function, call):
    calls, real = iter(range(1, 100)), getattr(module, function)

    def interrupted(*args, **kwargs):
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(module, function, interrupted)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        repair(**how, steps=2)


@pytest.mark.parametrize("how", METHODS, ids=lambda how: how["method"])
def test_an_interruption_in_the_middle_of_training_leaves_the_model_as_it_was(repair, model, untouched, monkeypatch, how):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_untangle.callbacks.progress.ProgressBarCallback.on_step_end", interrupted)
    with untouched(model), pytest.raises(KeyboardInterrupt):
        repair(**how, steps=2)


def test_a_lora_that_is_not_finite_is_not_merged(repair, model, untouched):
    with (
        untouched(model),
        pytest.raises(StatisticsError, match="the adapter holds NaN or infinity. The model is as it was: lower"),
    ):
        repair(method="lora", learning_rate=1e30, steps=4)


def test_distillation_brings_the_model_nearer_to_the_original_than_text_alone(
    taught, strongly_pruned, mask, tokenizer, test_pair
):
    distances = {}
    for share in (0.0, 1.0):
        model = deepcopy(strongly_pruned[0])
        settings = SMALL | {"method": "full", "learning_rate": 1e-3, "distill": share}
        record = untangle.repair(
            model, mask, WORDS, forget=NUMBERS, tokenizer=tokenizer, original=taught, progress=False, **settings
        )
        assert record.original == (str(taught.name_or_path) if share else None)
        distances[share] = kl(taught, model, test_pair.retain.input_ids)
        assert zero_where_removed(model, mask)
    assert distances[1.0] < distances[0.0] < kl(taught, strongly_pruned[0], test_pair.retain.input_ids)


def kl(one, other, ids) -> float:
    with torch.no_grad():
        p, q = (model(ids).logits.log_softmax(-1) for model in (one, other))
    return float(F.kl_div(q, p, log_target=True, reduction="sum"))


def taught_by(taught, blocks, *, top=258, temperature=1.0):
    """What the original predicts of some blocks; of all 258 tokens unless told otherwise."""
    return Teacher.of(taught, blocks, top=top, temperature=temperature, batch_size=1, progress=False)


def test_the_mixed_loss_is_the_usual_one_and_the_divergence_up_to_the_entropy_of_the_original(taught, model, test_pair):
    blocks = test_pair.retain[:2]
    ids, teacher = blocks.input_ids, taught_by(taught, blocks)
    outputs = model(ids)
    log_q, log_p = outputs.logits[:, :-1].log_softmax(-1), taught(ids).logits[:, :-1].log_softmax(-1)
    usual = model(ids, labels=ids).loss
    divergence = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    entropy = -(log_p.exp() * log_p).sum(-1).mean()
    for share in (0.0, 0.3, 1.0):
        loss = mixed_target_loss(outputs, ids, teacher=teacher, share=share)
        torch.testing.assert_close(loss, (1 - share) * usual + share * (divergence + entropy))


@pytest.mark.parametrize(("top", "temperature"), [(258, 2.5), (4, 1.0), (4, 0.5)])
def test_tokens_that_the_teacher_does_not_keep_count_as_one_at_any_temperature(taught, model, test_pair, top, temperature):
    blocks = test_pair.retain[:3]
    ids = blocks.input_ids[[2, 0]]
    p, q = ((one(ids).logits[:, :-1] / temperature).softmax(-1) for one in (taught, model))
    kept = taught(ids).logits[:, :-1].argsort(dim=-1, descending=True)[..., :top]
    # The token that follows is always among them.
    missing = ~(kept == ids[:, 1:, None]).any(-1)
    kept[..., -1] = torch.where(missing, ids[:, 1:], kept[..., -1])
    expected = -(p.gather(-1, kept) * q.gather(-1, kept).log()).sum(-1)
    if top < 258:
        rest_p, rest_q = (1 - one.gather(-1, kept).sum(-1) for one in (p, q))
        expected = expected - rest_p * rest_q.log()
    loss = mixed_target_loss(model(ids), ids, teacher=taught_by(taught, blocks, top=top, temperature=temperature), share=1.0)
    torch.testing.assert_close(loss, temperature**2 * expected.mean(), rtol=1e-3, atol=1e-4)


def test_the_loss_is_least_where_the_model_predicts_as_the_original(taught, test_pair):
    blocks = test_pair.retain[:2]
    teacher, ids = taught_by(taught, blocks, top=8, temperature=2.0), blocks.input_ids
    logits = taught(ids).logits.detach().requires_grad_(True)
    mixed_target_loss(SimpleNamespace(logits=logits), ids, teacher=teacher, share=1.0).backward()
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-6)


def test_a_teacher_knows_the_blocks_that_it_has_read_and_no_others(taught, test_pair):
    teacher = taught_by(taught, test_pair.retain[:2], top=4)
    assert len(teacher.rows) == 2
    with pytest.raises(ConfigError, match="Every block must be one that the original has read"):
        teacher.predictions(test_pair.retain.input_ids[2:3], test_pair.retain.input_ids[2:3])


def test_the_original_reads_every_block_once(taught, repair):
    """Steps that need blocks again take what is kept of them."""
    read, real = [], taught.forward

    def counted(*args, **kwargs):
        read.append(len(kwargs["input_ids"]))
        return real(*args, **kwargs)

    with forward_replaced(taught, counted):
        record = repair(distill=True, original=taught, method="full", learning_rate=1e-3, steps=4, retain=WORDS[:12])
    assert sum(read) == record.corpus["blocks"] < record.tokens / BLOCK
    assert record.settings["distill"] == 1.0
    assert record.after.retain.loss < record.before.retain.loss


def test_the_original_is_only_read(taught, repair, untouched):
    with untouched(taught):
        repair(distill=0.5, original=taught, steps=2)


def test_the_record_says_what_was_done(repair, model):
    record = repair(method="lora", rank=3, steps=2, batch_size=8)
    assert record.tokens == 2 * 512
    assert record.settings["learning_rate"] == LEARNING_RATE["lora"]
    assert (record.settings["rank"], record.settings["method"]) == (3, "lora")
    assert (record.corpus["corpus"], record.corpus["part"]) == ("strings (retain)", "train")
    widths = [sum(module.weight.shape) for name, module in model.named_modules() if name.endswith("proj")]
    assert record.parameters == 3 * sum(widths)
    assert record.seconds > 0


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        ({"method": "lorra"}, ConfigError, "`method`: input should be 'lora' or 'full', got 'lorra'"),
        ({"stepz": 3}, ConfigError, "There is no setting `stepz` .did you mean `steps`"),
        ({"steps": 0}, ConfigError, "`steps`: input should be greater than or equal to 1"),
        ({"distill": 2}, ConfigError, "`distill`: input should be less than or equal to 1"),
        ({"distill": 0.5}, ConfigError, "learns from the model before pruning, but none was given. Pass `original=`"),
    ],
)
def test_bad_settings_are_an_error_that_says_what_to_do(repair, model, untouched, wrong, kind, message):
    with untouched(model), pytest.raises(kind, match=message):
        repair(**wrong)


def test_the_pruned_model_is_no_original(repair, model):
    with pytest.raises(ConfigError, match="must be the model before pruning, got the pruned model itself"):
        repair(distill=0.5, original=model)


def test_a_model_that_still_has_its_neurons_is_refused(taught, mask, tokenizer, untouched):
    with untouched(taught), pytest.raises(MaskError, match="must be zero in the weights .* Call `remove_.model, mask, groups"):
        untangle.repair(taught, mask, WORDS, forget=NUMBERS, tokenizer=tokenizer, progress=False, **SMALL)


def test_a_mask_of_another_model_is_refused(tiny_model, mask, tokenizer, untouched):
    other = tiny_model("gpt2")
    with untouched(other), pytest.raises(MaskError, match="no such projection"):
        untangle.repair(other, mask, WORDS, forget=NUMBERS, tokenizer=tokenizer, progress=False, **SMALL)


def test_a_model_that_does_not_predict_the_next_token_is_refused(mask, tokenizer):
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("bert", hidden_size=8, num_attention_heads=2, vocab_size=260))
    with pytest.raises(
        ConfigError, match="Repair trains causal language models, but BertForMaskedLM predicts the masked token"
    ):
        untangle.repair(model, mask, WORDS, forget=NUMBERS, tokenizer=tokenizer)


def test_a_result_repairs_itself_and_its_record_says_so(taught, tokenizer, monkeypatch):
    few: dict[str, Any] = SMALL | {"steps": 2}
    model = deepcopy(taught)
    result = untangle.unlearn(
        model, NUMBERS, WORDS, tokenizer=tokenizer, config=TOY_CONFIG, steps=1, prompts=[], progress=False
    )
    once = result.repair(**few, progress=False)
    assert once is result and once.model is model
    before = once.record.repairs[0].before
    assert (before.forget, before.retain) == (once.record.test.after.forget, once.record.test.after.retain)
    assert once.record.final == once.record.repairs[0].after
    twice = once.repair(**few, method="full", progress=False)
    assert [one.settings["method"] for one in twice.record.repairs] == ["lora", "full"]
    assert zero_where_removed(model, result.mask)
    assert type(once.record).model_validate_json(twice.record.model_dump_json()) == twice.record


def test_merging_is_the_last_thing_that_happens_to_the_weights(repair, model, strongly_pruned, monkeypatch):
    seen = []
    real = methods.by_all_weights

    def watching(model, config, train, judge):
        return real(model, config, train, lambda copy: seen.append(weights_equal(model, strongly_pruned[0])) or judge(copy))

    monkeypatch.setitem(methods.REPAIRS, "full", watching)
    repair(method="full", steps=1)
    assert seen == [True]


def weights_equal(one, other) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
