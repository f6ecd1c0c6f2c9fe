"""Loading what compaction wrote: uniform checkpoints anywhere, ragged ones once that was switched on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_compaction import logits, some_removed, without
from transformers import AutoModelForCausalLM, LlamaForCausalLM

import hf_untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.ragged import enable_ragged_checkpoints
from hf_untangle.survey.tiny_models import random_inputs
from hf_untangle.survey.tiny_models import tiny_model as tiny_model_of

ROOT = Path(hf_untangle.__file__).parents[1]
LOAD = """
import torch, transformers
from safetensors.torch import save_file
model = transformers.AutoModelForCausalLM.from_pretrained({folder!r})
with torch.no_grad():
    save_file({{"logits": model(torch.arange(8)[None]).logits}}, {folder!r} + "/logits.safetensors")
"""


def loaded_elsewhere(folder: Path, *, before: str = "", between: str = "") -> torch.Tensor:
    """Take the logits of a checkpoint in a fresh process, where something is done before transformers is imported, or after."""
    from safetensors.torch import load_file

    code = f"import sys\n{before}\nimport transformers.modeling_utils\n{between}\n{LOAD.format(folder=str(folder))}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return load_file(folder / "logits.safetensors")["logits"]


@pytest.fixture
def saved(tiny_model, tmp_path):
    """A compacted Llama in a folder, and its logits."""

    def save(layout):
        model = tiny_model("llama")
        small = compact(model, some_removed(neuron_groups(model)), layout=layout)
        small.save_pretrained(tmp_path)
        return tmp_path, logits(small, torch.arange(8)[None])

    return save


def test_a_uniform_checkpoint_loads_where_this_package_cannot_be_imported(saved):
    folder, expected = saved("uniform")
    found = loaded_elsewhere(folder, before="sys.modules['hf_untangle'] = None")
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_ragged_checkpoint_loads_after_the_call_whether_transformers_was_imported_before_or_not(saved, moment):
    folder, expected = saved("ragged")
    call = "import hf_untangle; hf_untangle.compaction.enable_ragged_checkpoints()"
    torch.testing.assert_close(loaded_elsewhere(folder, **{moment: call}), expected)


@pytest.mark.parametrize("before", ["sys.modules['hf_untangle'] = None", "import hf_untangle"])
def test_a_ragged_checkpoint_names_the_missing_call_in_its_error(saved, before):
    folder, _ = saved("ragged")
    with pytest.raises(RuntimeError, match=r"call hf_untangle\.compaction\.enable_ragged_checkpoints\(\) first"):
        loaded_elsewhere(folder, before=before)


def test_importing_this_package_changes_nothing_in_transformers():
    code = """
import transformers, transformers.integrations.heterogeneity.configuration_utils as heterogeneity
mixin = heterogeneity.HeterogeneousConfigMixin
def seen():
    return (transformers.PreTrainedModel.__init__, heterogeneity._apply_heterogeneous_config,
            mixin._update_heterogeneous_to_dict_output, finders())
def finders():
    # pandas, which some versions of `datasets` import, brings the finder of `six`.
    return [one for one in sys.meta_path if type(one).__module__ != "six"]
import sys
before = seen()
import hf_untangle
hf_untangle.unlearn, hf_untangle.compact
assert seen() == before
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr


def test_switching_on_twice_is_switching_on_once():
    from transformers import PreTrainedModel

    enable_ragged_checkpoints()
    once = PreTrainedModel.__init__
    enable_ragged_checkpoints()
    assert PreTrainedModel.__init__ is once


def test_a_ragged_model_is_made_from_its_configuration_alone(tiny_model):
    model = tiny_model("llama")
    small = compact(model, without(neuron_groups(model), "ffn", (1,), 0.5))
    for made in (LlamaForCausalLM(small.config), AutoModelForCausalLM.from_config(small.config)):
        assert [layer.mlp.up_proj.out_features for layer in made.model.layers] == [48, 24]


def test_models_of_one_width_are_made_as_ever_after_a_ragged_one(tiny_model, tmp_path):
    model = tiny_model("llama")
    compact(model, without(neuron_groups(model), "ffn", (1,), 0.5)).save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(tmp_path)
    made = LlamaForCausalLM(type(model.config).from_dict(model.config.to_dict())).eval()
    assert [layer.mlp.up_proj.out_features for layer in made.model.layers] == [48, 48]
    assert len(made(torch.arange(4)[None], output_hidden_states=True).hidden_states) == 3


def test_per_layer_settings_survive_a_second_save(tiny_model, tmp_path):
    model = tiny_model("llama")
    compact(model, some_removed(neuron_groups(model))).save_pretrained(tmp_path / "once")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "once")
    loaded.save_pretrained(tmp_path / "twice")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "twice")
    ids = torch.arange(8)[None]
    assert torch.equal(logits(again, ids), logits(loaded, ids))


def test_a_ragged_encoder_and_decoder_loads_though_its_class_looks_at_the_width_of_all_layers(tmp_path):
    model = tiny_model_of("t5", "sequence-to-sequence")
    groups = neuron_groups(model)
    mask = without(groups, "ffn", (0,), 0.5)
    small = compact(model, mask)
    small.save_pretrained(tmp_path / "small")
    loaded = type(model).from_pretrained(tmp_path / "small").eval()
    assert [group.size for group in neuron_groups(loaded) if group.kind == "ffn"] == [20, 40, 20, 40]
    inputs = random_inputs("sequence-to-sequence")
    with torch.no_grad():
        assert torch.equal(small(**inputs).logits, loaded(**inputs).logits)
