"""The feed-forward blocks of Hugging Face models swapped for KAN layers, and back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn
from transformers import (
    ArceeConfig,
    ArceeForCausalLM,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
)

from hf_untangle.errors import TranslationError
from hf_untangle.translation.kan.convert import kan_layers_of, to_kan_, to_relu_
from hf_untangle.translation.kan.feed_forward import FeedForward, find_feed_forwards

IDS = {"input_ids": torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])}


def opt(**changes: object) -> OPTForCausalLM:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 64,
        "hidden_size": 16,
        "ffn_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = OPTConfig(**sizes, max_position_embeddings=32, word_embed_proj_dim=16, dropout=0.0, **changes)
    return OPTForCausalLM(config).eval()


def t5(**changes: object) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, **changes)).eval()


def m2m100() -> M2M100ForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"layers": 1, "ffn_dim": 32, "attention_heads": 2}
    layers = {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in sizes.items()}
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=64, d_model=16, **layers)).eval()


def squared_relu() -> ArceeForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return ArceeForCausalLM(ArceeConfig(vocab_size=64, **sizes)).eval()


def outputs(model: PreTrainedModel) -> Tensor:
    ids = IDS | ({"decoder_input_ids": IDS["input_ids"]} if model.config.is_encoder_decoder else {})
    with torch.no_grad():
        return model(**ids).logits


MODELS = {
    "opt, norm before": (opt, 2),
    "opt, norm behind": (lambda: opt(do_layer_norm_before=False), 2),
    "opt with gelu": (lambda: opt(activation_function="gelu"), 2),
    "t5": (t5, 4),
    "m2m100": (m2m100, 2),
    "squared relu": (squared_relu, 2),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_equal_to_the_last_bit(name: str, dtype: torch.dtype):
    make, blocks = MODELS[name]
    model = make().to(dtype)
    before = outputs(model)
    to_kan_(model)
    assert len(kan_layers_of(model)) == 2 * blocks
    assert torch.equal(outputs(model), before)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_stay_the_same_objects_under_the_same_names(name: str):
    model = MODELS[name][0]()
    before = dict(model.named_parameters())
    after = dict(to_kan_(model).named_parameters())
    assert before.keys() == after.keys()
    assert all(after[key] is parameter for key, parameter in before.items())


@pytest.mark.parametrize("name", MODELS)
def test_going_back_gives_the_original_model(name: str):
    model = MODELS[name][0]()
    before, structure, config = outputs(model), repr(model), model.config.to_dict()
    to_relu_(to_kan_(model))
    assert torch.equal(outputs(model), before)
    assert repr(model) == structure and model.config.to_dict() == config


def test_an_edge_of_a_model_is_a_scaled_relu():
    model = to_kan_(opt())
    layer = model.model.decoder.layers[1].fc2
    assert layer.edge(3, 5).slopes.tolist() == [0, layer.weight[3, 5].item()]


def test_a_saved_kan_loads_as_the_original_model(tmp_path: Path):
    model = to_kan_(opt())
    model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert kan_layers_of(plain) == {}
    assert torch.equal(outputs(plain), outputs(model))


def test_a_saved_kan_knows_which_blocks_are_kans(tmp_path: Path):
    to_kan_(opt()).save_pretrained(tmp_path)
    noted = json.loads((tmp_path / "config.json").read_text())["kan_feed_forwards"]
    assert noted[1] == [f"model.decoder.layers.1.{part}" for part in ("fc1", "activation_fn", "fc2")]
    loaded = to_kan_(AutoModelForCausalLM.from_pretrained(tmp_path))
    assert set(kan_layers_of(loaded)) == set(kan_layers_of(to_kan_(opt())))


WITHOUT_US = """
import sys
sys.modules["hf_untangle"] = None  # importing it now fails
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert type(model.model.decoder.layers[0].fc2) is torch.nn.Linear
with torch.no_grad():
    torch.save(model(input_ids=torch.load(sys.argv[2])).logits, sys.argv[2])
"""


def test_a_saved_kan_loads_where_this_package_is_not_installed(tmp_path: Path):
    model = to_kan_(opt())
    model.save_pretrained(tmp_path / "model")
    torch.save(IDS["input_ids"], tmp_path / "logits.pt")
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT_US, str(tmp_path / "model"), str(tmp_path / "logits.pt")]
    subprocess.run(command, check=True, timeout=120, cwd=tmp_path)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), outputs(model))


def test_a_pushed_kan_is_a_checkpoint_of_the_original_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = SimpleNamespace(create_repo=lambda repo_id, **_: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: hub)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: ModelCard("A model."))
    upload = lambda self, folder, *_, **__: shutil.copytree(folder, tmp_path / "hub")  # noqa: E731
    monkeypatch.setattr(PreTrainedModel, "_upload_modified_files", upload)
    model = to_kan_(opt())
    model.push_to_hub("me/kan")
    assert torch.equal(outputs(AutoModelForCausalLM.from_pretrained(tmp_path / "hub")), outputs(model))
    assert len(json.loads((tmp_path / "hub" / "config.json").read_text())["kan_feed_forwards"]) == 2


def test_weights_that_are_not_finite_are_refused_by_name():
    model = opt()
    with torch.no_grad():
        model.model.decoder.layers[1].fc2.weight[0, 0] = torch.nan
    with pytest.raises(TranslationError, match=r"Weights must be finite numbers, but `model.decoder.layers.1.fc2.weight`"):
        to_kan_(model)
    assert not kan_layers_of(model)


def test_dropout_behind_a_relu_trains_as_before():
    model = t5(dropout_rate=0.3).train()
    torch.manual_seed(1)
    before = outputs(model)
    to_kan_(model)
    torch.manual_seed(1)
    assert torch.equal(outputs(model), before)
    assert all(module.training for module in model.modules())


def test_gradients_are_the_same():
    model = opt()
    model(**IDS, labels=IDS["input_ids"]).loss.backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    to_kan_(model)(**IDS, labels=IDS["input_ids"]).loss.backward()
    assert all(torch.equal(parameter.grad, before[name]) for name, parameter in model.named_parameters())


def test_models_that_read_something_else_are_swapped_on_given_inputs():
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)).eval()
    with pytest.raises(TranslationError, match="ViTModel reads pixel_values, which cannot be made up"):
        to_kan_(model)
    pixels = {"pixel_values": torch.randn(1, 3, 16, 16)}
    with torch.no_grad():
        before = model(**pixels).last_hidden_state
        assert torch.equal(to_kan_(model, pixels)(**pixels).last_hidden_state, before)


class Shared(nn.Module):
    """Two blocks with one activation module."""

    def __init__(self):
        super().__init__()
        self.act = nn.GELU()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers[1](self.act(self.layers[0](x)))
        return self.layers[3](self.act(self.layers[2](x)))


def test_blocks_that_share_an_activation_are_both_found():
    blocks = find_feed_forwards(Shared(), {"x": torch.randn(2, 4)})
    assert blocks == [FeedForward("layers.0", "act", "layers.1"), FeedForward("layers.2", "act", "layers.3")]


def test_a_block_that_runs_twice_is_found_once():
    model = Shared()
    blocks = find_feed_forwards(nn.Sequential(model, model), {"input": torch.randn(2, 4)})
    assert [block.project for block in blocks] == ["0.layers.1", "0.layers.3"]


def llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes))


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (llama, "down_proj does not read what comes out of .*act_fn .* but its product with a gate"),
        (lambda: t5(feed_forward_proj="gated-gelu"), "wo does not read what comes out of .*gated_to_kan"),
        (gpt2, r"No Linear, elementwise activation and Linear .* GPT2LMHeadModel \(activations seen: NewG"),
        (lambda: to_kan_(opt()), "are KANs already. Undo that with to_relu_"),
    ],
)
def test_what_cannot_be_swapped_is_refused_by_name(make: object, message: str):
    model = make()  # pyright: ignore[reportCallIssue]
    with pytest.raises(TranslationError, match=message):
        to_kan_(model)


def test_a_model_without_kans_has_nothing_to_undo():
    with pytest.raises(TranslationError, match="OPTForCausalLM has no KAN layers to undo. Was to_kan_ called"):
        to_relu_(opt())


def test_a_block_with_hooks_is_not_swapped():
    model = opt()
    structure = repr(model)
    model.model.decoder.layers[1].fc2.register_forward_hook(lambda *_: None)
    with pytest.raises(TranslationError, match="layers.1.fc2.* has hooks, which a swap would lose"):
        to_kan_(model)
    assert repr(model) == structure


def test_a_model_that_uses_its_neurons_elsewhere_is_left_as_it_was():
    model = opt()
    first, act, second = (getattr(model.model.decoder.layers[0], name) for name in ("fc1", "activation_fn", "fc2"))

    class Twice(nn.Module):
        """A block whose neurons go into the outputs directly, too."""

        def __init__(self):
            super().__init__()
            self.first, self.act, self.second = first, act, second

        def forward(self, x: Tensor) -> Tensor:
            neurons = self.act(self.first(x))
            return self.second(neurons) + neurons[..., :16]

    layer = model.model.decoder.layers[0]
    layer.fc1, layer.activation_fn, layer.fc2 = Twice(), nn.Identity(), nn.Identity()
    before, structure = outputs(model), repr(model)
    with pytest.raises(TranslationError, match="gives other outputs, so it is left as it was"):
        to_kan_(model)
    assert repr(model) == structure and torch.equal(outputs(model), before)
    assert not hasattr(model.config, "kan_feed_forwards")


def test_a_note_for_another_model_is_refused():
    model = opt()
    model.config.kan_feed_forwards = [["model.decoder.layers.7.fc1", "a", "b"]]
    with pytest.raises(TranslationError, match="The config notes a KAN that this model does not have"):
        to_kan_(model)
