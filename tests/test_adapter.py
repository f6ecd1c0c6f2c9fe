"""A mask as a stock peft adapter: it loads, switches off, combines and merges.

That it loads without this package is tested in `test_hub.py`, in a process that cannot import this package.
"""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from typer.testing import CliRunner, Result

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.projections import input_axis, weight_of
from hf_untangle.cli.main import app
from hf_untangle.errors import MaskError, OutputError
from hf_untangle.folders import MARKER
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path, save_mask_path
from hf_untangle.masks.select import random_like
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.survey.tiny_models import tiny_model as tiny_type

IDS = torch.arange(40)[None]
# peft turns gradient checkpointing off by a name that transformers is renaming, and takes Conv1D for what it is after a word.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Already found a .peft_config. attribute:UserWarning"),  # of a second adapter
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False but the target module is .Conv1D.:UserWarning"),
]


def a_mask(model: PreTrainedModel, seed: int = 3, keep: float = 0.5) -> NeuronMask:
    """A random share of the neurons of every group."""
    groups = neuron_groups(model)
    kept = {group.name: torch.arange(group.size) < keep * group.size for group in groups}
    return random_like(NeuronMask.keep_all(groups, str(model.name_or_path)).with_kept(kept), seed)


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def masked_logits(model: PreTrainedModel, mask: NeuronMask) -> Tensor:
    with masked(model, mask):
        return logits(model)


@torch.no_grad()
def zero_columns(model: PreTrainedModel, mask: NeuronMask) -> None:
    for name, kept in mask.items():
        weight = weight_of(model.get_submodule(name))
        weight.index_fill_(input_axis(model.get_submodule(name)), (~kept).nonzero().flatten(), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peft_reproduces_the_masked_model_bit_for_bit_and_gives_the_base_back(model, tmp_path, dtype):
    model.to(dtype)
    mask = a_mask(model)
    before, expected = logits(model), masked_logits(model, mask)
    with_adapter = PeftModel.from_pretrained(model, str(mask.to_adapter(tmp_path / "adapter")))
    assert torch.equal(logits(with_adapter), expected)
    assert not torch.equal(expected, before)
    with with_adapter.disable_adapter():
        assert torch.equal(logits(with_adapter), before)


def test_transformers_loads_it_too_and_gives_the_base_back(model, tmp_path):
    mask = a_mask(model)
    before, expected = logits(model), masked_logits(model, mask)
    model.load_adapter(str(mask.to_adapter(tmp_path / "adapter")))
    assert torch.equal(logits(model), expected)
    model.disable_adapters()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merging_equals_zeroed_columns(tiny_model, family, tmp_path, dtype):
    model, zeroed = tiny_model(family).to(dtype), tiny_model(family).to(dtype)
    mask = a_mask(model)
    zero_columns(zeroed, mask)
    merged = PeftModel.from_pretrained(model, str(mask.to_adapter(tmp_path / "adapter"))).merge_and_unload()
    weights = merged.state_dict()
    assert weights.keys() == zeroed.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in zeroed.state_dict().items())


def quantized(folder: Path, bits: int, dtype: torch.dtype) -> PreTrainedModel:
    if bits == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    return AutoModelForCausalLM.from_pretrained(folder, quantization_config=config, dtype=dtype).eval()


@pytest.fixture(scope="module")
def checkpoint(tiny_model, tmp_path_factory) -> Path:
    """A model that bitsandbytes can quantize: widths are multiples of its blocks."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny_model("llama", hidden_size=64, intermediate_size=128)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("bits", [8, 4])
def test_on_a_quantized_base_it_is_the_masked_base_bit_for_bit(checkpoint, tmp_path, bits):
    # Each is loaded anew: bitsandbytes repacks 4-bit weights on CPUs when they are first used, and rounds as it unpacks them.
    base, bare, adapted = (quantized(checkpoint, bits, torch.float32) for _ in range(3))
    mask = a_mask(base)
    expected, before = masked_logits(base, mask), logits(bare)
    with_adapter = PeftModel.from_pretrained(adapted, str(mask.to_adapter(tmp_path / "adapter")))
    assert torch.equal(logits(with_adapter), expected)
    assert not torch.equal(expected, before)
    with with_adapter.disable_adapter():
        assert torch.equal(logits(with_adapter), before)


@pytest.mark.parametrize("bits", [8, 4])
def test_transformers_loads_it_on_a_quantized_base_too(checkpoint, tmp_path, bits):
    base, adapted = (quantized(checkpoint, bits, torch.float32) for _ in range(2))
    mask = a_mask(base)
    adapted.load_adapter(str(mask.to_adapter(tmp_path / "adapter")))
    assert torch.equal(logits(adapted), masked_logits(base, mask))


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_base_in_bfloat16_needs_autocast_as_peft_computes_in_float32(checkpoint, tmp_path, bits):
    base, adapted = (quantized(checkpoint, bits, torch.bfloat16) for _ in range(2))
    mask = a_mask(base)
    with_adapter = PeftModel.from_pretrained(adapted, str(mask.to_adapter(tmp_path / "adapter")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, found, before = masked_logits(base, mask), logits(with_adapter), logits(base)
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert (found - before).norm() > 0.5 * before.norm()


ELSEWHERE = """
import sys
sys.modules["hf_untangle"] = None  # importing it now fails
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

folder, adapter, found = sys.argv[1:]
bases = {
    "float32": {"dtype": torch.float32},
    "bfloat16": {"dtype": torch.bfloat16},
    "8": {"quantization_config": BitsAndBytesConfig(load_in_8bit=True), "dtype": torch.float32},
    "4": {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
        "dtype": torch.float32,
    },
}
logits = {}
for name, how in bases.items():
    for way in ("peft", "transformers"):
        model = AutoModelForCausalLM.from_pretrained(folder, **how).eval()
        if way == "peft":
            model = PeftModel.from_pretrained(model, adapter)
        else:
            model.load_adapter(adapter)
        with torch.no_grad():
            logits[f"{name} {way}"] = model(torch.arange(40)[None]).logits.clone()
save_file(logits, found)
"""


@pytest.mark.slow
def test_every_base_is_masked_in_a_process_without_this_package(checkpoint, tmp_path):
    adapter = a_mask(AutoModelForCausalLM.from_pretrained(checkpoint)).to_adapter(tmp_path / "adapter")
    command = [sys.executable, "-c", ELSEWHERE, str(checkpoint), str(adapter), str(tmp_path / "found")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = load_file(tmp_path / "found")
    mask = NeuronMask.from_adapter(adapter)
    for dtype in (torch.float32, torch.bfloat16):
        base = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
        for way in ("peft", "transformers"):
            assert torch.equal(found[f"{str(dtype)[6:]} {way}"], masked_logits(base, mask))
    for bits in (8, 4):
        for way in ("peft", "transformers"):
            base = quantized(checkpoint, bits, torch.float32)
            assert torch.equal(found[f"{bits} {way}"], masked_logits(base, mask))


def test_two_adapters_together_are_both_masks(model, tmp_path):
    code, toxic = a_mask(model, seed=1, keep=0.8), a_mask(model, seed=2, keep=0.7)
    both, one = masked_logits(model, code & toxic), masked_logits(model, toxic)
    for name, mask in (("code", code), ("toxic", toxic)):
        model.load_adapter(str(mask.to_adapter(tmp_path / name)), adapter_name=name)
    model.set_adapter(["code", "toxic"])
    assert torch.equal(logits(model), both)
    model.set_adapter("toxic")
    assert torch.equal(logits(model), one)


def test_the_mask_is_read_back_from_the_adapter(model, tmp_path):
    mask = a_mask(model)
    read = NeuronMask.from_adapter(mask.to_adapter(tmp_path / "adapter"))
    assert (read, list(read), read.kinds, read.model) == (mask, list(mask), mask.kinds, mask.model)
    assert NeuronMask.from_pretrained(tmp_path / "adapter") == mask


def test_a_mask_of_some_groups_touches_these_alone(tiny_model, tmp_path):
    model = tiny_model("llama")
    mask = a_mask(model)
    (name,) = (name for name in mask if name == "model.layers.1.mlp.down_proj")
    some = NeuronMask({name: mask[name]}, {name: "ffn"}, mask.model)
    expected = masked_logits(model, some)
    assert torch.equal(logits(PeftModel.from_pretrained(model, str(some.to_adapter(tmp_path / "adapter")))), expected)


def test_the_vectors_by_hand(tmp_path):
    name = "model.layers.0.mlp.down_proj"
    mask = NeuronMask({name: torch.tensor([True, False, True])}, {name: "ffn"}, "org/name")
    folder = mask.to_adapter(tmp_path / "adapter")
    (key, vector), *others = load_file(folder / "adapter_model.safetensors").items()
    assert (key, vector.tolist(), others) == (f"base_model.model.{name}.ia3_l", [[1.0, 0.0, 1.0]], [])
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["base_model_name_or_path"], config["task_type"]) == ("IA3", "org/name", "CAUSAL_LM")
    assert config["target_modules"] == config["feedforward_modules"] == [name]


def test_a_quarter_of_a_megabyte_holds_a_mask_of_smollm2(tmp_path):
    sizes = {f"model.layers.{n}.{part}": size for n in range(30) for part, size in (("o_proj", 576), ("down_proj", 1536))}
    kept = {name: torch.ones(size, dtype=torch.bool) for name, size in sizes.items()}
    folder = NeuronMask(kept, dict.fromkeys(kept, "ffn"), "m").to_adapter(tmp_path / "adapter")
    assert 250_000 < (folder / "adapter_model.safetensors").stat().st_size < 265_000


def test_the_card_of_an_adapter_says_that_it_hides_and_does_not_remove(tiny_model, tmp_path):
    card = (a_mask(tiny_model("llama")).to_adapter(tmp_path / "adapter") / "README.md").read_text()
    assert "**An adapter hides, it does not remove.**" in card
    assert "silences 80 of 160 neurons" in card
    assert "| `model.layers.0.mlp.down_proj` | ffn | 24 | 48 |" in card
    assert str(tmp_path) not in card


def test_an_adapter_replaces_an_adapter_but_nothing_else(tiny_model, tmp_path):
    mask = a_mask(tiny_model("llama"))
    assert NeuronMask.from_adapter(mask.to_adapter(mask.to_adapter(tmp_path / "adapter"))) == mask
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(OutputError, match="was not written by hf_untangle"):
        mask.to_adapter(tmp_path / "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_an_adapter_that_is_no_mask_is_refused(tiny_model, tmp_path):
    mask = a_mask(tiny_model("llama"))
    folder = mask.to_adapter(tmp_path / "adapter")
    vectors = load_file(folder / "adapter_model.safetensors")
    name = next(iter(vectors))

    save_file(vectors | {name: vectors[name] * 0.5}, folder / "adapter_model.safetensors")
    with pytest.raises(MaskError, match="must hold the vectors of a mask, got other numbers than 0 and 1"):
        NeuronMask.from_adapter(folder)
    save_file({name: vectors[name]}, folder / "adapter_model.safetensors")
    with pytest.raises(MaskError, match=f"one vector for every group that its {MARKER} names, but the names differ"):
        NeuronMask.from_adapter(folder)
    (folder / "adapter_model.safetensors").write_text("text")
    with pytest.raises(MaskError, match="adapter_model.safetensors` must hold the vectors of a mask, got"):
        NeuronMask.from_adapter(folder)
    (folder / MARKER).write_text('{"task": "other"}')
    with pytest.raises(MaskError, match=f"{MARKER}` must hold the record of an adapter .*`format`"):
        NeuronMask.from_adapter(folder)
    (folder / MARKER).unlink()
    with pytest.raises(MaskError, match=f"{MARKER}` must hold the record of an adapter that `to_adapter` wrote, got"):
        NeuronMask.from_adapter(folder)


@pytest.mark.parametrize("ablation", ["mean", "mode"])
def test_a_mask_of_a_run_that_held_neurons_at_another_value_is_refused_as_an_adapter_cannot_shift(
    tiny_model, tmp_path, ablation
):
    mask = replace(a_mask(tiny_model("llama")), ablation=ablation)
    message = f"An adapter can only silence neurons, but the run of this mask held them at ablation='{ablation}'.* Share the"
    with pytest.raises(MaskError, match=message):
        mask.to_adapter(tmp_path / "adapter")
    mask.save(tmp_path / "mask.safetensors")
    refused = run("adapter", tmp_path / "mask.safetensors", tmp_path / "adapter")
    assert (refused.exit_code, "can only silence neurons" in refused.stderr) == (3, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.safetensors"]


def test_an_adapter_of_fused_experts_is_refused_as_peft_would_leave_them_out(tmp_path):
    model = tiny_type("mixtral")
    with pytest.raises(
        MaskError, match=r"`model.layers.0.mlp.experts.down_proj` is one tensor for all experts. Try the mask with"
    ):
        a_mask(model).to_adapter(tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def result(unlearned) -> UnlearnResult:
    """A run of three steps."""
    return unlearned


@pytest.fixture(scope="module")
def saved(result, tmp_path_factory) -> Path:
    """The run, saved without the report, which takes seconds to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_untangle.results.unlearned.write_report", lambda *_, **__: None)
        return result.save_pretrained(tmp_path_factory.mktemp("results") / "toy")


def test_every_step_of_a_run_is_an_adapter_on_the_original_model(result, taught, tmp_path):
    folder = result.save_adapters(tmp_path / "ladder", license="apache-2.0")
    assert [path.name for path in sorted(folder.glob("step-*"))] == ["step-01", "step-02", "step-03"]
    for number, mask in enumerate(result.mask_path, start=1):
        model = PeftModel.from_pretrained(deepcopy(taught), str(folder), subfolder=f"step-{number:02}")
        assert torch.equal(logits(model), masked_logits(taught, mask))
        assert NeuronMask.from_adapter(folder / f"step-{number:02}") == mask
    assert UnlearnRecord.model_validate_json((folder / MARKER).read_text()) == result.record


def test_the_card_of_a_ladder_says_what_each_strength_costs(result, tmp_path):
    card = (result.save_adapters(tmp_path / "ladder") / "README.md").read_text()
    chosen = result.history.step
    (row,) = (line for line in card.splitlines() if "(chosen)" in line)
    assert row.startswith(f"| `step-{chosen.number:02}` (chosen) | {chosen.removed['ffn']} |")
    assert f"{chosen.scores.forget_drop(result.history.base):.1%}" in row
    assert f'subfolder="step-{chosen.number:02}"' in card
    assert "**An adapter hides, it does not remove.**" in card


def test_the_masks_of_all_steps_are_saved_in_a_file_no_larger_than_two_masks(saved, result):
    assert load_mask_path(saved / MASK_PATH) == result.mask_path
    assert (saved / MASK_PATH).stat().st_size < 2 * (saved / "mask.safetensors").stat().st_size


def test_masks_that_give_neurons_back_are_no_mask_path(tmp_path):
    first = NeuronMask({"a": torch.tensor([True, False])}, {"a": "ffn"}, "m")
    second = NeuronMask({"a": torch.tensor([False, True])}, {"a": "ffn"}, "m")
    for masks in ((), (first, second)):
        with pytest.raises(MaskError, match=f"removes at least what the one before removes, but these {len(masks)} do not"):
            save_mask_path(tmp_path / MASK_PATH, masks)
    assert list(tmp_path.iterdir()) == []


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_takes_a_mask_a_result_or_one_of_its_steps(saved, result, tmp_path):
    assert run("adapter", saved / "mask.safetensors", tmp_path / "mask").exit_code == 0
    assert run("adapter", saved, tmp_path / "chosen").exit_code == 0
    done = run("adapter", saved, tmp_path / "first", "--step", 1, "--json")
    assert json.loads(done.stdout)["adapters"][0]["removed"] == result.mask_path[0].removed()
    read = [NeuronMask.from_adapter(tmp_path / name) for name in ("mask", "chosen", "first")]
    assert read == [result.mask, result.mask, result.mask_path[0]]


def test_the_command_writes_all_steps(saved, result, tmp_path):
    done = run("adapter", saved, tmp_path / "ladder", "--all-steps")
    assert done.exit_code == 0, done.stderr
    assert "An adapter hides, it does not remove" in " ".join(done.stdout.split())
    assert NeuronMask.from_adapter(tmp_path / "ladder" / "step-02") == result.mask_path[1]


def test_the_recipe_writes_the_strengths_of_a_run(saved, result, tmp_path):
    recipe = Path(__file__).parents[1] / "recipes" / "adapter" / "strengths-of-smollm2-without-code.yaml"
    assert run("run", recipe, "--set", f"source={saved}", "--set", f"output={tmp_path / 'out'}").exit_code == 0
    assert NeuronMask.from_adapter(tmp_path / "out" / "step-03") == result.mask_path[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--step", "9"), "The step must be one of the result's, from 1 to 3, got 9"),
        (("--step", "0"), "`step`: input should be greater than or equal to 1"),
    ],
)
def test_a_step_that_is_not_there_is_bad_input(saved, tmp_path, words, message):
    done = run("adapter", saved, tmp_path / "out", *words)
    assert (done.exit_code, message in " ".join(done.stderr.split())) == (3, True)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_result_is_bad_input(tmp_path):
    done = run("adapter", tmp_path, tmp_path / "out")
    assert done.exit_code == 3
    assert "must hold a mask, got a file that cannot be opened" in " ".join(done.stderr.split())
