"""What a reader sees imports nothing deeper than one room, and only what a door lists."""

import ast
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hf_untangle
from hf_untangle.cli.main import app

ROOT = Path(__file__).parents[1]
SHOWN = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "recipes/**/*.yaml", "model_cards/**/*.md", "examples/*.ipynb")
TEMPLATES = ("hf_untangle/**/*.j2",)
PAGES = [page for pattern in (*SHOWN, *TEMPLATES) for page in sorted(ROOT.glob(pattern))]
ROOMS = {room.parent.name for room in ROOT.glob("hf_untangle/*/__init__.pyi")}
IMPORT = re.compile(r"^\s*(?:>>> )?from hf_untangle((?:\.\w+)*) import ((?:\w+(?:, )?)+|\((?:\s*\w+,?)+\s*\))", re.MULTILINE)
PATH = re.compile(r"\b(?:hf_untangle|untangle)((?:\.\w+)+)")
FILES = {"md", "json", "yaml", "html", "safetensors", "py"}
"""Endings of names of files, such as `untangle.json`."""


def public(path: str, name: str) -> bool:
    """Tell whether a room, or the package, lists a name."""
    room = import_module(f"hf_untangle{path}")
    return path.count(".") <= 1 and name in room.__all__


def wrong_in(text: str) -> list[str]:
    """Find imports and dotted names that no door lists."""
    wrong = []
    for path, names in IMPORT.findall(text):
        deep = path.count(".") > 1 or (path and path[1:] not in ROOMS | {"errors"})
        wrong += [
            f"{path}: {name}" for name in re.findall(r"\w+", names) if deep or not (path == ".errors" or public(path, name))
        ]
    for path in PATH.findall(text):
        first, *rest = path[1:].split(".")
        if first in FILES or first.startswith("__") or (first == "errors" and not rest):
            continue
        deep = first in ROOMS and rest and not public(f".{first}", rest[0])
        if deep or not (first in ROOMS or public("", first)):
            wrong.append(path)
    return wrong


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES])
def test_a_page_imports_nothing_deeper_than_one_room(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    assert wrong_in(text) == []


def test_examples_in_docstrings_import_nothing_deeper_than_one_room():
    wrong = {}
    for file in ROOT.glob("hf_untangle/**/*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                imports = [f"{path}: {names}" for path, names in IMPORT.findall(text) if path.count(".") > 1]
                wrong |= {f"{file.relative_to(ROOT)}: {node_name(node)}": imports} if imports else {}
    assert wrong == {}


def node_name(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return getattr(node, "name", "module")


def commands(group, path=()):
    """List every command below a group, as the words that call it."""
    if hasattr(group, "commands"):
        return [each for name, one in group.commands.items() for each in commands(one, (*path, name))]
    return [path]


def test_the_help_of_every_command_names_nothing_deeper_than_one_room():
    from typer.main import get_command

    for path in commands(get_command(app)):
        text = CliRunner().invoke(app, [*path, "--help"], terminal_width=200).output
        assert text and wrong_in(text) == [], path


def test_a_deep_import_and_a_name_that_no_door_lists_are_found():
    assert wrong_in("from hf_untangle.masks.mask import NeuronMask") != []
    assert wrong_in("from hf_untangle.masks import no_such_name") != []
    assert wrong_in("untangle.masks.no_such_name(3)") != [] and wrong_in("untangle.no_such_name") != []
    assert wrong_in("from hf_untangle.masks import NeuronMask\nuntangle.masks.NeuronMask.load(file)\n`untangle.json`") == []
    assert hf_untangle.__all__
