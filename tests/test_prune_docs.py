"""The code on the pages about compression and scores runs as it is printed."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from toy_languages import NUMBERS, WORDS

import hf_untangle as untangle
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.importance.functions import IMPORTANCE
from hf_untangle.importance.scores import SCORES

DOCS = Path(__file__).parents[1] / "docs"


def code(page: str) -> str:
    return "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL))


@pytest.fixture
def reader(toy_model, tokenizer, tmp_path, monkeypatch):
    """What a reader has: a model, its tokenizer, and two corpora, all of them small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(import_module("hf_untangle.prune"), "find_tokenizer", lambda model, given: tokenizer)
    monkeypatch.setattr(import_module("hf_untangle.prune"), "corpus", lambda source: untangle.corpus(WORDS))
    small = PruneConfig(tokens=1024, evaluation_tokens=512, block_size=32)
    monkeypatch.setattr(import_module("hf_untangle.prune"), "PruneConfig", lambda: small)
    forget, retain = (untangle.token_blocks(texts, tokenizer, tokens=512, block_size=32) for texts in (NUMBERS, WORDS))
    return {"untangle": untangle, "model": toy_model, "forget_blocks": forget, "retain_blocks": retain}


def test_the_page_about_compression_runs(reader, capsys):
    exec(code("compression.md"), reader)
    assert "removes 128 of 512 ffn neurons (25.0%)" in capsys.readouterr().out
    assert Path("three-quarters/report.html").exists()


def test_the_page_about_scores_runs(reader):
    exec(code("scores.md"), reader)
    assert reader["metrics"].tokens > 0
    assert any((factors < 1).any() for factors in reader["factors"].values())


def test_every_importance_and_score_is_on_the_page():
    page = (DOCS / "scores.md").read_text()
    assert [name for name in (*IMPORTANCE, *SCORES) if f"`{name}`" not in page] == []
