"""The page about attacks names every attack and every setting with its default."""

from pathlib import Path

import pytest

from hf_untangle.configs.attack import NAMES, QUICK, AttackConfig

PAGE = (Path(__file__).parents[1] / "docs" / "attacks.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_has_a_row(name):
    assert any(row.startswith(f"| `{name}` |") for row in ROWS)


def test_every_setting_has_a_row():
    first_cells = " ".join(row.split("|")[1] for row in ROWS)
    assert [name for name in AttackConfig.model_fields if f"`{name}`" not in first_cells] == []


@pytest.mark.parametrize("name", ["seeds", "max_seconds", "samples", "steps", "points", "evaluation_tokens"])
def test_the_defaults_on_the_page_are_those_of_the_code(name):
    (row,) = (row for row in ROWS if f"`{name}`" in row.split("|")[1])
    for cell, config in zip(row.split("|")[2:4], (AttackConfig(), QUICK), strict=True):
        assert cell.split(", ")[0].strip().replace(",", "") == f"{getattr(config, name):.0f}"
