"""The public face: small, and free until it is used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import hf_untangle

ROOT = Path(hf_untangle.__file__).parents[1]
PUBLIC = {
    "ActivationStatistics",
    "AttackConfig",
    "AttackReport",
    "DensityCallback",
    "EntropyCallback",
    "NetsCallback",
    "MaskCallback",
    "NeuronGroup",
    "NeuronMask",
    "PruneConfig",
    "PruneResult",
    "PiecewiseLinearKANLayer",
    "StatisticsCallback",
    "TranslationCallback",
    "UnlearnConfig",
    "UnlearnEvaluationCallback",
    "UnlearnResult",
    "UntangleError",
    "attack",
    "collect",
    "compact",
    "compact_folder",
    "corpus",
    "evaluate",
    "index_patterns",
    "kan_to_relu",
    "masked",
    "metric",
    "neuron_groups",
    "next_token_metrics",
    "plan",
    "prune",
    "relu_to_kan",
    "remove_",
    "restore",
    "repair",
    "remove_folder",
    "three_layer",
    "to_kan_",
    "to_relu_",
    "token_blocks",
    "unlearn",
}

ROOMS = {"density": {"across_widths", "sweep"}, "nets": {"compare", "search", "search_neurons"}}
"""Rooms that are reached by their name, with functions that are called there."""


def in_a_fresh_process(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_the_public_names_are_exactly_these():
    assert set(hf_untangle.__all__) == PUBLIC | ROOMS.keys()
    assert hf_untangle.__all__ == sorted(hf_untangle.__all__)


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_is_reached_by_its_name_with_its_functions(room):
    module = getattr(hf_untangle, room)
    assert module.__name__ == f"hf_untangle.{room}" and module.__doc__
    assert all(callable(getattr(module, name)) and getattr(module, name).__doc__ for name in ROOMS[room])


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_a_home_and_a_docstring(name):
    value = getattr(hf_untangle, name)
    assert value.__name__ == name
    assert value.__doc__
    assert getattr(import_module(value.__module__), name) is value


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="hf_untangle has no `unlern`; its public names are .*unlearn"):
        hf_untangle.unlern  # noqa: B018


def test_importing_costs_nothing_until_a_name_is_used():
    loaded = in_a_fresh_process("import sys, hf_untangle; print(sorted({name.partition('.')[0] for name in sys.modules}))")
    assert "'hf_untangle'" in loaded
    for heavy in ("torch", "transformers", "datasets", "numpy", "pydantic", "matplotlib", "typer"):
        assert f"'{heavy}'" not in loaded


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
        assert issubclass(kind, (ValueError, RuntimeError, OSError, ImportError))
