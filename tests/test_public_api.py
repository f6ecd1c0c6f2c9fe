"""The public face: small, and free until it is used."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hf_untangle

ROOT = Path(hf_untangle.__file__).parents[1]
STUBS = sorted((ROOT / "hf_untangle").rglob("__init__.pyi"))
PUBLIC = {
    "NeuronMask",
    "PruneConfig",
    "PruneResult",
    "UnlearnConfig",
    "UnlearnResult",
    "UntangleError",
    "attack",
    "collect",
    "compact",
    "corpus",
    "evaluate",
    "load",
    "masked",
    "neuron_groups",
    "plan",
    "prune",
    "remove_",
    "repair",
    "restore",
    "unlearn",
}
ROOMS = {
    str(each.asname)
    for node in ast.parse((ROOT / "hf_untangle" / "__init__.pyi").read_text()).body
    if isinstance(node, ast.Import)
    for each in node.names
}


def in_a_fresh_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def names_in(stub: Path) -> list[str]:
    return [
        str(each.asname) for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom) for each in node.names
    ]


def test_the_public_names_are_exactly_these_twenty():
    assert set(names_in(ROOT / "hf_untangle" / "__init__.pyi")) == PUBLIC
    assert len(PUBLIC) <= 20
    assert set(hf_untangle.__all__) == PUBLIC | ROOMS
    assert {stub.parent.name for stub in STUBS} - {"hf_untangle"} <= ROOMS
    assert hf_untangle.__all__ == sorted(hf_untangle.__all__)


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.parent.name)
def test_every_name_of_a_room_is_defined_where_its_stub_says(stub):
    room = import_module(".".join(stub.parent.relative_to(ROOT).parts))
    assert room.__doc__
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            for each in node.names:
                assert each.asname == each.name
                assert getattr(room, each.name) is vars(import_module(str(node.module)))[each.name]


def test_public_names_survive_the_import_of_their_modules_and_the_job_of_a_command_of_what_it_may_not_need():
    code = """
import sys, hf_untangle.statistics.collect, hf_untangle as h
print(callable(h.statistics.collect))
import hf_untangle.recipes.unlearn
print(*{"peft", "bitsandbytes", "datasets", "evaluate", "torch"} & set(sys.modules))
"""
    assert in_a_fresh_process(code).split() == ["True", "torch"]


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_a_docstring(name):
    value = getattr(hf_untangle, name)
    assert value.__name__ == name and value.__doc__


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="hf_untangle has no `unlern`; its public names are .*unlearn"):
        hf_untangle.unlern  # noqa: B018


def test_importing_costs_nothing_until_a_name_is_used():
    loaded = in_a_fresh_process("import sys, hf_untangle; print(sorted({name.partition('.')[0] for name in sys.modules}))")
    assert "'hf_untangle'" in loaded
    for heavy in ("torch", "transformers", "datasets", "numpy", "pydantic", "matplotlib", "typer"):
        assert f"'{heavy}'" not in loaded


def test_importing_takes_a_fifth_of_a_second_at_most():
    code = "import time; start = time.process_time(); import hf_untangle; print(time.process_time() - start)"
    assert min(float(in_a_fresh_process(code)) for _ in range(3)) < 0.2


def test_the_command_line_shows_its_help_without_loading_torch():
    code = "import sys; from hf_untangle.cli.main import app; print('torch' in sys.modules, 'transformers' in sys.modules)"
    assert in_a_fresh_process(code) == "False False"


def test_the_version_is_that_of_the_installed_package():
    assert hf_untangle.__version__.count(".") == 2


def test_every_error_is_also_the_built_in_that_a_caller_would_catch():
    errors = import_module("hf_untangle.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.UntangleError]
    assert len(kinds) >= 10
    for kind in kinds:
        assert issubclass(kind, errors.UntangleError)
        assert issubclass(kind, (ValueError, TypeError, RuntimeError, OSError, ImportError))
