"""The code in the documentation of density runs as it is printed."""

import re
from pathlib import Path

import pytest
import torch
from toy_languages import BLOCK, WORDS
from transformers import Trainer, TrainingArguments

from hf_untangle.data import corpora
from hf_untangle.density import measure

DOCS = Path(__file__).parent.parent / "docs" / "density.md"


def test_the_code_on_the_page_runs(toy_model, tokenizer, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(measure, "BLOCK_SIZE", BLOCK)
    monkeypatch.setattr(measure, "corpus", lambda _: corpora.corpus(WORDS))
    monkeypatch.setattr(measure, "find_tokenizer", lambda *_: tokenizer)
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    scope = {"model": toy_model, "trainer": Trainer(torch.nn.Linear(1, 1), arguments)}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(blocks) == 4
    exec("\n".join(blocks), scope)
    printed = capsys.readouterr().out
    assert re.match(r"\d+% of all weights can go by magnitude", printed)
    assert "the absolute core grows with every widening" in printed
