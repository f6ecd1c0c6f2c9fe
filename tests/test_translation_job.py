"""The job `translate`, its commands and its recipes, on tiny networks."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from hf_untangle.cli.main import app
from hf_untangle.errors import ArchitectureError, ConfigError
from hf_untangle.folders import MARKER
from hf_untangle.recipes.read import carry_out, check_recipe, read_recipe
from hf_untangle.translation import export
from hf_untangle.translation.digits_network import digits_network
from hf_untangle.translation.export import Original
from hf_untangle.translation.kan.convert import NOTE, kan_layers_of, to_kan_
from hf_untangle.translation.kan.kan_files import load_kan
from hf_untangle.translation.mlp_files import load_mlp
from hf_untangle.translation.three_layers.extended_network import ThreeLayerNetwork
from hf_untangle.translation.three_layers.gated_network import GatedNetwork

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "translate").glob("*.yaml"))
DONE, BAD_INPUT, OVER_BUDGET = 0, 3, 4


def tiny(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), nn.ReLU()) for i, o in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_model, tokenizer) -> Path:
    """A folder with a multilayer perceptron and an OPT checkpoint; the digits are already learned by a tiny network."""
    monkeypatch.chdir(tmp_path)
    torch.save(tiny(2, 4, 3, 2).state_dict(), "mlp.pt")
    model = tiny_model("opt")
    model.save_pretrained("opt")
    tokenizer.save_pretrained("opt")
    data = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    small = Original(tiny(2, 4, 3, 10), data, torch.arange(40) % 10)
    read = export.read_original
    monkeypatch.setattr("hf_untangle.recipes.translate.read_original", lambda name: small if name == "digits" else read(name))
    monkeypatch.setattr(export, "POINTS", 200)
    return tmp_path


def job(**content):
    return carry_out(check_recipe({"task": "translate", "output": "out"} | content), progress=False).record


def command(*words: str):
    return CliRunner().invoke(app, ["translate", *words])


X = torch.linspace(-3, 3, 100, dtype=torch.float64).reshape(50, 2)


@pytest.mark.parametrize("form", ["fused", "shifted", "alternating"])
def test_a_file_becomes_a_kan_that_is_the_same_function(project, form):
    record = job(to="kan", network="mlp.pt", form=form)
    torch.testing.assert_close(load_kan("out/kan.safetensors")(X), load_mlp("mlp.pt")(X), rtol=0, atol=1e-12)
    assert record["measured"]["largest difference"] < 1e-12 and record["measured"]["points"] == 200
    assert record["measured"]["equal to the last bit"] or form != "fused"


def test_a_kan_becomes_a_multilayer_perceptron_again(project):
    job(to="kan", network="mlp.pt", output="kan")
    record = job(to="relu", network="kan/kan.safetensors")
    assert torch.equal(load_mlp("out/network.safetensors")(X), load_mlp("mlp.pt")(X))
    assert record["measured"]["hidden neurons"] == [4, 3]


def test_other_piecewise_linear_activations_become_relus(project):
    network = nn.Sequential(nn.Linear(2, 5), nn.Hardtanh(), nn.Linear(5, 1)).double()
    torch.save(network, "tanh.pt")
    assert job(to="relu", network="tanh.pt")["measured"]["hidden neurons"] == [15]
    torch.testing.assert_close(load_mlp("out/network.safetensors")(X), network(X), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("form", "kind"), [("halfopen", ThreeLayerNetwork), ("closed", ThreeLayerNetwork), ("gate", GatedNetwork)]
)
def test_a_file_becomes_three_layers_that_are_the_same_function(project, form, kind):
    record = job(to="three-layer", network="mlp.pt", form=form)
    shallow = kind.from_pretrained("out")
    torch.testing.assert_close(shallow(X), load_mlp("mlp.pt")(X), rtol=0, atol=1e-12)
    assert record["measured"]["linear regions"] == shallow.regions if form != "gate" else len(shallow.membership)
    assert {"rules.md", "regions.png"} <= set(record["files"]) and all(Path("out", name).exists() for name in record["files"])


def test_the_blocks_of_a_checkpoint_become_kans_and_blocks_again(project):
    original = AutoModelForCausalLM.from_pretrained("opt")
    record = job(to="kan", network="opt", output="kans", data={"source": "general", "prefer": "embedded"}, block=0)
    assert record["measured"] == record["measured"] | {"equal to the last bit": True, "feed-forward blocks": 2}
    swapped = AutoModelForCausalLM.from_pretrained("kans")
    assert len(kan_layers_of(to_kan_(swapped))) == 4 and "layers.0.fc2" in Path("kans/block.html").read_text()
    job(to="relu", network="kans", output="relus")
    back = AutoModelForCausalLM.from_pretrained("relus")
    assert not hasattr(back.config, NOTE)
    ids = torch.arange(1, 9)[None]
    assert torch.equal(back(ids).logits, original(ids).logits)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_does_what_it_says(project, file):
    if "relu-again" in file.stem:
        job(to="kan", network="digits", output="out/digits-as-kan")
    small = {"network": "opt", "data": {"source": "general", "prefer": "embedded"}}
    overrides = small if "opt" in file.stem else {}
    record = carry_out(read_recipe(file, overrides), progress=False).record
    assert record["measured"].get("largest difference", 0) < 1e-12
    content = yaml.safe_load(file.read_text())
    assert all(Path(content["output"], name).exists() for name in [*record["files"], MARKER])


def test_there_are_recipes_for_every_target():
    assert {yaml.safe_load(file.read_text())["to"] for file in RECIPES} == {"kan", "relu", "three-layer"}


def test_the_commands_do_the_job_and_print_json(project):
    for words in (("kan", "mlp.pt"), ("relu", "mlp.pt"), ("three-layer", "mlp.pt", "--box", "-1", "1", "--form", "gate")):
        result = command(*words, "-o", f"out-{words[0]}", "--json")
        assert result.exit_code == DONE, result.output
        record = json.loads(result.stdout)
        assert record["to"] == words[0] and record == json.loads(Path(f"out-{words[0]}", MARKER).read_text())
    assert record["box"] == [-1.0, 1.0]


def test_the_table_says_what_was_measured_and_where_everything_is(project):
    result = command("kan", "-o", "out")
    assert result.exit_code == DONE
    for words in ("digits as kan:", "equal to the last bit", "Saved in out: kan.safetensors, network.png."):
        assert words in result.stdout


def test_a_network_that_is_too_large_for_the_limits_leaves_nothing_behind(project):
    result = command("three-layer", "mlp.pt", "--max-regions", "2", "--output", "out")
    assert result.exit_code == OVER_BUDGET and "linear regions are expected" in result.stderr
    assert not any(Path().glob("out/*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"to": "kan", "form": "gate"}, "`form`: must be one of fused, shifted, alternating, got 'gate'"),
        ({"to": "relu", "form": "fused"}, "`form`: must be left out, got 'fused'"),
        ({"to": "spline"}, "`to`: input should be 'kan', 'relu' or 'three-layer'"),
        ({"to": "three-layer", "max_regions": 0}, "`max_regions`: input should be greater than 0"),
        ({"to": "three-layer", "network": "opt"}, "Three layers need a file .* but `opt` is no file"),
        ({"to": "kan", "network": "opt", "form": "shifted"}, "can take the form `fused` only, got `shifted`"),
        ({"to": "kan", "network": "opt", "data": "README.md", "block": 7}, "one of the 2 blocks of `opt`, got 7"),
        ({"to": "three-layer", "network": "mlp.pt", "box": [1, 1]}, "finite width above 0"),
    ],
)
def test_bad_settings_are_refused(project, content, message):
    Path("README.md").write_text("a short text")
    with pytest.raises(ConfigError, match=message):
        job(**content)
    assert not Path("out").exists()


def test_what_is_no_network_is_refused_by_name(project):
    Path("empty").mkdir()
    with pytest.raises(ArchitectureError, match="`empty` must be a file with a multilayer perceptron, a folder"):
        job(to="kan", network="empty")


@pytest.mark.slow
def test_the_digits_are_told_apart_by_a_small_network():
    first, second = digits_network(), digits_network()
    assert first.accuracy > 0.5 and torch.equal(first.network(first.x), second.network(second.x))
    assert first.x.shape == (len(first.labels), 2) == (500, 2)
