"""Recipes: every key is checked before anything long begins."""

from pathlib import Path

import pytest
import yaml

from hf_untangle.data.catalogue import CORPORA
from hf_untangle.errors import ConfigError
from hf_untangle.methods.choose import method_names, split_settings
from hf_untangle.methods.registry import METHODS
from hf_untangle.recipes.corpus_option import CorpusChoice
from hf_untangle.recipes.read import check_recipe, parse_override, read_recipe

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.rglob("*.yaml"))
MINIMAL = {"task": "unlearn", "model": "smollm2", "forget": "code", "output": "out"}


@pytest.fixture
def written(tmp_path):
    """Write a recipe and give its path."""

    def write(content: object) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return path

    return write


def test_a_minimal_recipe_keeps_general_with_the_default_settings(written):
    recipe = read_recipe(written(MINIMAL))
    assert (recipe.forget, recipe.retain, recipe.kind) == (CorpusChoice(source="code"), None, "causal-lm")
    assert (recipe.model, recipe.output) == ("smollm2", "out")
    assert (recipe.preset, recipe.settings, recipe.dtype, recipe.device_map) == ("default", {}, "auto", None)


def test_a_recipe_with_every_key(written):
    text = """
    task: unlearn
    model: org/name
    dtype: bfloat16
    device_map: auto
    forget: {source: "data.csv", column: text}
    retain: {source: general, prefer: embedded, split: train}
    preset: paper
    settings: {steps: 3, ffn_eps: 1e-3, attention_eps: 10%}
    prompts: ["def f(x):", "Once"]
    output: out/name
    """
    recipe = read_recipe(written(text))
    assert recipe.forget == CorpusChoice(source="data.csv", column="text")
    assert recipe.retain == CorpusChoice(source="general", prefer="embedded", split="train")
    assert recipe.settings == {"steps": 3, "ffn_eps": "1e-3", "attention_eps": "10%"}
    assert recipe.prompts == ("def f(x):", "Once")


def test_overrides_take_the_place_of_the_files_values(written):
    path = written(MINIMAL | {"settings": {"steps": 3, "seed": 1}})
    recipe = read_recipe(path, {"output": "elsewhere", "settings.steps": 5, "forget": {"source": "python"}})
    assert recipe.output == "elsewhere"
    assert recipe.settings == {"steps": 5, "seed": 1}
    assert recipe.forget == CorpusChoice(source="python")


def test_an_override_may_set_what_the_file_leaves_out(written):
    assert read_recipe(written(MINIMAL), {"settings.steps": 5}).settings == {"steps": 5}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"modle": "x"}, "There is no setting `modle` .did you mean `model`"),
        ({"outptu": "x"}, "There is no setting `outptu` .did you mean `output`"),
        ({"zzzzzzzz": 1}, r"There is no setting `zzzzzzzz`\.$"),
        ({"forget": {"source": "a.csv", "colunm": "x"}}, r"^There is no setting `forget.colunm` .did you mean `column`.*\.$"),
        ({"retain": {"source": "general", "perfer": "hub"}}, "There is no setting `retain.perfer` .did you mean `prefer`"),
        ({"forget": {"column": "x"}}, r"^`forget.source`: field required\.$"),
        ({"forget": {"source": "code", "prefer": "disk"}}, "`forget.prefer`: input should be 'auto', 'hub' or 'embedded'"),
        ({"forget": 3}, "`forget`: .*got 3"),
        ({"dtype": "float31"}, "`dtype`: input should be 'auto', 'checkpoint', 'float32', .* got 'float31'"),
        ({"task": "unlern"}, "`task` must be one of .*unlearn.*, got .unlern. .did you mean `unlearn`"),
        ({"settings": [1]}, "`settings`: input should be a valid dictionary, got .1."),
    ],
)
def test_a_wrong_key_or_value_is_an_error_that_offers_the_nearest(written, wrong, message):
    with pytest.raises(ConfigError, match=message):
        read_recipe(written(MINIMAL | wrong))


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(ConfigError, match="`dtype`: .* There is no setting `outptu`"):
        check_recipe({"outptu": "x", "dtype": 3} | MINIMAL)


@pytest.mark.parametrize("key", ["task", "model", "forget", "output"])
def test_a_missing_key_is_an_error(key):
    with pytest.raises(ConfigError, match=f"^`{key}`: field required\\.$"):
        check_recipe({name: value for name, value in MINIMAL.items() if name != key})


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="A recipe must be a YAML file, but there is no file `.*none.yaml`"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["a: [", "task: unlearn\n\tmodel: x"])
def test_what_is_not_yaml_is_an_error(written, text):
    with pytest.raises(ConfigError, match="The recipe `.*recipe.yaml` is not valid YAML"):
        read_recipe(written(text))


def test_what_is_not_utf8_is_an_error(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("output: café".encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.yaml` must hold a recipe in YAML, got bytes that are not UTF-8"):
        read_recipe(tmp_path / "latin.yaml")


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b", "list"), ("", "NoneType"), ("code", "str")])
def test_a_recipe_that_is_no_mapping_is_an_error(written, text, kind):
    with pytest.raises(ConfigError, match=f"must be a mapping of keys to values, but it is a {kind}"):
        read_recipe(written(text))


def test_a_key_below_a_single_value_cannot_be_set(written):
    with pytest.raises(ConfigError, match="`forget.column` cannot be set, as `forget` is a single value and has no keys"):
        read_recipe(written(MINIMAL), {"forget.column": "x"})


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("settings.steps=4", ("settings.steps", 4)),
        ("ffn_eps=10%", ("ffn_eps", "10%")),
        ("output=a=b", ("output", "a=b")),
        ("prompts=[a, b]", ("prompts", ["a", "b"])),
        ("iterative=false", ("iterative", False)),
    ],
)
def test_an_override_is_a_key_and_a_yaml_value(text, parsed):
    assert parse_override(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"), [("steps", "must look like"), ("=4", "must look like"), ("a=[", "not valid YAML")]
)
def test_an_override_that_cannot_be_read_is_an_error(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_override(text)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_own_recipes_hold_nothing_unknown_and_say_how_to_run_them(path):
    recipe = read_recipe(path)
    folder, *_ = path.relative_to(FOLDER).parts
    assert folder in (recipe.model_dump()["task"], "papers", "bench")
    assert f"hf-untangle run {path.relative_to(FOLDER.parent)}" in path.read_text()


@pytest.mark.parametrize("path", sorted((FOLDER / "unlearn").glob("*.yaml")), ids=lambda path: path.stem)
def test_our_own_unlearning_recipes_have_settings_and_corpora_that_exist(path):
    recipe = read_recipe(path)
    split_settings(method_names(recipe.method), recipe.preset, recipe.settings)
    assert recipe.kind == "image-classifier" or {recipe.forget.source, recipe.retain.source} <= set(CORPORA)


def test_every_method_has_a_recipe():
    recipes = [read_recipe(path).method for path in (FOLDER / "unlearn").glob("by-*.yaml")]
    assert {recipe for recipe in recipes if isinstance(recipe, str)} == set(METHODS)
