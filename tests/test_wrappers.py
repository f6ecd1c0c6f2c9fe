"""Models inside of others: compiled or parallel ones are looked through, adapters of peft are kept or refused."""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.saving import save_model
from hf_untangle.errors import ArchitectureError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.undo_removal import cut_out_, put_back_
from hf_untangle.prune import prune
from hf_untangle.statistics.collect import collect
from hf_untangle.unlearn import unlearn

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # by peft
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),  # by torch.compile
]

LORA = LoraConfig(r=4, target_modules=["v_proj", "o_proj", "up_proj", "down_proj"], init_lora_weights=False)


class Parallel(nn.parallel.DistributedDataParallel):
    """One of several processes, without the others."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module = module


WRAPPERS = {
    "data parallel": nn.DataParallel,
    "distributed": Parallel,
    "compiled": torch.compile,
    "both": lambda model: torch.compile(nn.DataParallel(model)),
}


def halved(model):
    groups = neuron_groups(model)
    mask = NeuronMask.keep_all(groups, "tiny-llama")
    return mask.with_kept({name: torch.arange(len(kept)) % 2 == 0 for name, kept in mask.items()}), groups


def logits(model, blocks):
    with torch.no_grad():
        return model(input_ids=blocks.input_ids).logits


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_neurons_are_found_measured_and_removed_inside_of_wrappers(wrapper, tiny_model, blocks):
    model = tiny_model("llama")
    wrapped = WRAPPERS[wrapper](model)
    mask, groups = halved(wrapped)
    assert [group.name for group in groups] == [group.name for group in neuron_groups(model)]
    with masked(model, mask):
        expected = next_token_metrics(model, blocks, progress=False)
    with masked(wrapped, mask):
        assert next_token_metrics(wrapped, blocks, progress=False) == expected
    assert collect(wrapped, blocks, progress=False).model == "tiny-llama"
    remove_(wrapped, mask, groups)
    assert next_token_metrics(model, blocks, progress=False).loss == pytest.approx(expected.loss, rel=1e-5)
    assert compact(wrapped, mask, layout="uniform").num_parameters() < model.num_parameters()


@pytest.fixture
def adapted(tiny_model):
    """A model under an adapter of random weights."""
    torch.manual_seed(0)
    return get_peft_model(tiny_model("llama"), LORA).eval()


@pytest.mark.parametrize("seen_as", ["wrapper", "model inside"])
def test_masks_silence_what_the_adapter_reads_too(adapted, seen_as, blocks, untouched):
    model = adapted if seen_as == "wrapper" else adapted.get_base_model()
    mask, _ = halved(model)
    merged = deepcopy(adapted).merge_and_unload()
    with masked(merged, mask):
        expected = logits(merged, blocks)
    with untouched(adapted), masked(model, mask):
        torch.testing.assert_close(logits(model, blocks), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seen_as", ["wrapper", "model inside"])
def test_removal_keeps_the_adapter_and_is_the_masked_model(adapted, seen_as, blocks):
    model = adapted if seen_as == "wrapper" else adapted.get_base_model()
    mask, groups = halved(model)
    with masked(model, mask):
        expected = logits(model, blocks)
    assert remove_(model, mask, groups) is model
    torch.testing.assert_close(logits(model, blocks), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits(adapted.merge_and_unload(), blocks), expected, rtol=1e-4, atol=1e-4)


def test_what_was_removed_under_an_adapter_comes_back(adapted, untouched):
    model = adapted.get_base_model()
    mask, groups = halved(model)
    with untouched(model):
        put_back_(model, cut_out_(model, mask, groups))


@pytest.mark.parametrize("call", [unlearn, prune, compact], ids=lambda one: one.__name__)
def test_what_would_be_saved_without_its_adapter_is_refused(adapted, call, tokenizer, untouched):
    model = adapted.get_base_model()
    more = {} if call is compact else {"tokenizer": tokenizer, "progress": False}
    with untouched(model), pytest.raises(ArchitectureError, match="no adapters.*Merge them first with .*merge_and_unload"):
        call(model, *(["code"] if call is unlearn else []), **more)


def test_the_wrapper_of_an_adapter_is_refused_too(adapted):
    with pytest.raises(ArchitectureError, match="this PeftModel carries some of peft"):
        check_without_adapters(adapted)


def test_a_checkpoint_that_plain_loading_cannot_read_is_not_written(adapted, tmp_path):
    with pytest.raises(ArchitectureError, match="merge_and_unload"):
        save_model(adapted.get_base_model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_learned_prompt_is_no_adapter_of_weights(tiny_model):
    prompted = get_peft_model(tiny_model("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ArchitectureError, match="learned prompt"):
        neuron_groups(prompted)
