"""Code that a checkpoint brings along is not run, and nobody is asked whether it may be."""

import ast
import json
from pathlib import Path

import pytest
from forked import COMMAND

import hf_untangle as untangle
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import ArchitectureError, TokenizerError
from hf_untangle.models import load_classifier, load_encoder
from hf_untangle.recipes.model_size import bare_model
from hf_untangle.translation.export import _load

PACKAGE = Path(untangle.__file__).parent
ROOT = PACKAGE.parent
CODE = "from pathlib import Path\nPath({mark!r}).touch()\nfrom transformers import PreTrainedConfig as Own\n"
CLASSES = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForImageClassification")


@pytest.fixture
def mark(tmp_path) -> Path:
    """What the code in the checkpoint writes."""
    return tmp_path / "it-ran"


@pytest.fixture
def checkpoint(tmp_path, mark) -> Path:
    """A folder of an unknown type, whose configuration and tokenizer name code beside them."""
    folder = tmp_path / "strange"
    folder.mkdir()
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    config = {"model_type": "strange", "architectures": ["Strange"], "auto_map": dict.fromkeys(CLASSES, "own.Own")}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def _tokenizer_of(folder: Path, tiny_model) -> object:
    """The tokenizer of a model that was loaded from the folder."""
    model = tiny_model("llama")
    model.config._name_or_path = model.name_or_path = str(folder)
    return find_tokenizer(model, None)


@pytest.mark.parametrize(
    "read",
    [
        lambda folder, _: untangle.load(folder),
        lambda folder, _: untangle.neuron_groups(folder),
        lambda folder, _: load_classifier(folder),
        lambda folder, _: load_encoder(folder),
        lambda folder, _: bare_model(folder),
        lambda folder, _: _load(folder, "float32"),
        _tokenizer_of,
    ],
    ids=["load", "by name", "classifier", "encoder", "estimate", "translation", "tokenizer"],
)
def test_code_of_a_checkpoint_is_neither_run_nor_asked_for(checkpoint, mark, read, tiny_model, monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *question: asked.append(question) or "y")
    with pytest.raises((ArchitectureError, TokenizerError, ValueError)):
        read(str(checkpoint), tiny_model)
    assert not asked
    assert not mark.exists()


def test_code_of_a_checkpoint_runs_where_that_was_asked_for(forked, checkpoint, mark):
    for words, ran in (([], False), (["--trust-remote-code"], True)):
        done = forked(ROOT, COMMAND, "groups", checkpoint, *words)
        assert done.returncode != 0, "the code makes no model, whether it runs or not"
        assert mark.exists() == ran


def _calls(file: Path) -> list[ast.Call]:
    """The calls of `from_pretrained` of an automatic class in a file."""
    found = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    return [
        call
        for call in found
        if isinstance(call.func, ast.Attribute)
        and call.func.attr == "from_pretrained"
        and ast.unparse(call.func.value).startswith(("Auto", "LOADERS"))
    ]


def test_every_loader_says_whether_code_may_run():
    calls = [(file, call) for file in PACKAGE.rglob("*.py") for call in _calls(file)]
    assert len(calls) >= 10
    silent = [
        f"{file.relative_to(PACKAGE)}:{call.lineno}"
        for file, call in calls
        if not any(each.arg in (None, "trust_remote_code") for each in call.keywords)
    ]
    assert silent == []
