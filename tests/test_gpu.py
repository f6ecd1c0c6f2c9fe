"""On a GPU everything is as on the processor: run with `pytest -m gpu` where a card is at hand.

With `HF_UNTANGLE_TEST_DEVICE=cpu` the same code runs without one, which shows that it runs and no more.
"""

import os
from copy import deepcopy

import pytest
import torch
from conftest import TOY_CONFIG
from toy_languages import NUMBERS, WORDS
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.compensation import least_squares
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.undo_removal import cut_out_, put_back_
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency, collect_with_saliency

pytestmark = pytest.mark.gpu
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture
def device() -> torch.device:
    """The first card, or what the environment names instead."""
    named = os.environ.get("HF_UNTANGLE_TEST_DEVICE")
    if named is None and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return torch.device(named or "cuda")


@pytest.fixture
def there(taught, device):
    return deepcopy(taught).to(device)


def half_of(groups) -> NeuronMask:
    return NeuronMask.keep_all(groups, "toy").with_kept({each.name: torch.arange(each.size) % 2 > 0 for each in groups})


def logits(model, blocks) -> torch.Tensor:
    with torch.no_grad():
        return model(blocks.input_ids.to(model.device)).logits.float().cpu()


def test_statistics_and_gradients_are_those_of_the_processor(taught, there, blocks, padded_blocks):
    for some in (blocks, padded_blocks):
        groups = neuron_groups(there)
        here, away = (collect(model, some, progress=False) for model in (taught, there))
        both, together = collect_with_saliency(there, some, groups=groups, progress=False)
        saliency = collect_saliency(taught, some, groups=groups, progress=False)
        for name, moments in here.items():
            torch.testing.assert_close(away[name].square, moments.square, **CLOSE)
            torch.testing.assert_close(both[name].total, moments.total, **CLOSE)
            torch.testing.assert_close(together[name].first, saliency[name].first, **CLOSE)


def test_metrics_are_those_of_the_processor(taught, there, blocks):
    here, away = (next_token_metrics(model, blocks, progress=False) for model in (taught, there))
    assert away.loss == pytest.approx(here.loss, abs=1e-4)
    assert away.tokens == here.tokens


def test_a_mask_removal_compaction_and_the_way_back_agree(taught, there, blocks):
    groups = neuron_groups(there)
    mask = half_of(groups)
    before = logits(there, blocks)
    with untangle.masked(there, mask):
        tried = logits(there, blocks)
    with untangle.masked(taught, mask):
        torch.testing.assert_close(tried, logits(taught, blocks), rtol=1e-3, atol=1e-3)
    ffn = mask.with_kept({each.name: torch.ones(each.size, dtype=torch.bool) for each in groups if each.kind == "attention"})
    small = compact(there, ffn, layout="uniform")
    removed = cut_out_(there, mask, groups)
    torch.testing.assert_close(logits(there, blocks), tried, rtol=1e-3, atol=1e-3)
    put_back_(there, removed)
    assert torch.equal(logits(there, blocks), before)
    with untangle.masked(there, ffn):
        torch.testing.assert_close(logits(small, blocks), logits(there, blocks), rtol=1e-3, atol=1e-3)
    assert small.device == there.device


def test_unlearning_takes_one_language_and_leaves_the_other(there, tokenizer):
    result = untangle.unlearn(there, NUMBERS, WORDS, tokenizer=tokenizer, config=TOY_CONFIG, steps=2, progress=False)
    test = result.record.test
    assert test.after.selectivity(test.before) > 0.2
    assert result.record.history.steps[0].forward_tokens > 0


def test_weights_are_refitted_as_on_the_processor(taught, there, blocks):
    groups = neuron_groups(there)
    mask = half_of(groups)
    here, away = (least_squares(model, mask, tuple(groups), blocks, progress=False) for model in (taught, there))
    assert away.ridges == here.ridges
    for name, weight in here.weights.items():
        torch.testing.assert_close(away.weights[name], weight, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("bits", [BitsAndBytesConfig(load_in_8bit=True), BitsAndBytesConfig(load_in_4bit=True)])
def test_quantized_models_are_measured_and_masked(project, device, blocks, bits):
    if device.type == "cpu":
        pytest.skip("the processor has tests of its own")
    model = AutoModelForCausalLM.from_pretrained(project / "toy", quantization_config=bits, device_map={"": device})
    groups = neuron_groups(model)
    statistics = collect(model, blocks, progress=False)
    assert all(torch.isfinite(moments.square).all() for moments in statistics.moments.values())
    before = logits(model, blocks)
    with untangle.masked(model, half_of(groups)):
        assert not torch.allclose(logits(model, blocks), before)
    assert torch.equal(logits(model, blocks), before)


def test_two_cards_sum_up_what_one_does(project, blocks, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("there are not two CUDA devices")
    file = tmp_path / "sums.pt"
    torch.multiprocessing.spawn(sum_up, (str(project / "toy"), blocks.input_ids, str(file)), nprocs=2)
    alone = collect(AutoModelForCausalLM.from_pretrained(project / "toy"), blocks, progress=False)
    for name, square in torch.load(file, weights_only=True).items():
        torch.testing.assert_close(square, alone[name].square, **CLOSE)


def sum_up(rank: int, model: str, ids: torch.Tensor, file: str) -> None:
    """What each of two processes does."""
    from hf_untangle.data.corpora import corpus
    from hf_untangle.data.tokens import TokenBlocks

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29611"}
    torch.cuda.set_device(rank)
    torch.distributed.init_process_group("nccl", rank=rank, world_size=2)
    every = torch.ones_like(ids, dtype=torch.bool)
    blocks = TokenBlocks(ids, every, every, corpus(["made"]), "train", documents=len(ids))
    statistics = collect(AutoModelForCausalLM.from_pretrained(model).to(f"cuda:{rank}"), blocks, progress=False)
    if rank == 0:
        torch.save({name: moments.square for name, moments in statistics.moments.items()}, file)
    torch.distributed.destroy_process_group()
