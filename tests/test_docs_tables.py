"""Tables of the documentation name every choice and setting with its default, and every file that a page names is there."""

import re
from pathlib import Path

import pytest

from hf_untangle.configs.attack import NAMES, QUICK, AttackConfig
from hf_untangle.configs.repair import LEARNING_RATE, RepairConfig
from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.importance.scores import SCORES
from hf_untangle.methods.registry import METHODS
from hf_untangle.methods.settings import MethodConfig

ROOT = Path(__file__).parents[1]
PAGES = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))}
ATTACK_ROWS = [line for line in PAGES["attacks.md"].splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_has_a_row(name):
    assert any(row.startswith(f"| `{name}` |") for row in ATTACK_ROWS)


def test_every_setting_of_attacks_has_a_row():
    first_cells = " ".join(row.split("|")[1] for row in ATTACK_ROWS)
    assert [name for name in AttackConfig.model_fields if f"`{name}`" not in first_cells] == []


@pytest.mark.parametrize("name", ["seeds", "max_seconds", "samples", "steps", "points", "evaluation_tokens"])
def test_the_defaults_of_attacks_on_the_page_are_those_of_the_code(name):
    (row,) = (row for row in ATTACK_ROWS if f"`{name}`" in row.split("|")[1])
    for cell, config in zip(row.split("|")[2:4], (AttackConfig(), QUICK), strict=True):
        assert cell.split(", ")[0].strip().replace(",", "") == f"{getattr(config, name):.0f}"


def test_every_importance_and_score_is_on_the_page():
    assert [name for name in (*IMPORTANCE, *SCORES) if f"`{name}`" not in PAGES["scores.md"]] == []


def test_every_setting_of_repair_and_its_default_are_on_the_page():
    table = PAGES["repair.md"].partition("| setting | default |")[2].partition("\n\n")[0]
    assert [name for name in RepairConfig.model_fields if f"`{name}`" not in table] == []
    defaults = RepairConfig()
    assert f"| {defaults.steps}, {defaults.step_tokens:,} |" in table
    assert f"| {defaults.block_size}, {defaults.batch_size} |" in table
    rates = [f"{LEARNING_RATE[method]:.0e}".replace("e-0", "e-") for method in ("lora", "full")]
    assert f"| {rates[0]} (`lora`), {rates[1]} (`full`) |" in table


def test_every_setting_of_robustify_and_its_default_are_on_the_page():
    rows = [line.split("|") for line in PAGES["robustify.md"].splitlines() if line.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row[1])]
    values = [value.replace(",", "") for row in rows for value in row[2].strip().split(", ")]
    defaults = {name: field.default for name, field in RobustifyConfig.model_fields.items()}
    assert names == sorted(names, key=names.index) and set(names) == set(defaults)
    assert dict(zip(names, values, strict=True)) == {
        name: f"{defaults[name]:g}".replace("0.0004", "4e-4")
        if not isinstance(defaults[name], str | int)
        else str(defaults[name])
        for name in names
    }


def test_every_method_and_every_setting_of_methods_is_on_the_page():
    page = PAGES["methods.md"]
    assert [name for name in METHODS if f"| `{name}` |" not in page] == []
    first_cells = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert [name for name in MethodConfig.model_fields if f"`{name}`" not in first_cells] == []


def test_every_recipe_script_and_test_that_a_page_names_is_there():
    named = {
        path for page in PAGES.values() for path in re.findall(r"\b(?:recipes|benchmarks|tests|examples)/[\w/-]+\.\w+", page)
    }
    assert len(named) > 10
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []
