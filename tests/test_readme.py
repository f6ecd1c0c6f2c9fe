"""Every Python snippet of the README runs, in order, as a reader would type it."""

import re
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM

import hf_untangle as untangle
from hf_untangle.configs import unlearn as config
from hf_untangle.pruning import iterative

README = Path(__file__).parent.parent / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
SENTENCES = [f"The {count}th letter arrived late, and nobody in the house wanted to open it. " * 8 for count in range(80)]


@pytest.fixture
def reader(tmp_path, monkeypatch, toy_model, tokenizer):
    """What a reader has: a model behind `from_pretrained`, its tokenizer, a data set, and a file in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda name, **_: toy_model)
    for room in ("pruning.tasks", "evaluation.evaluate"):
        monkeypatch.setattr(f"hf_untangle.{room}.find_tokenizer", lambda model, given: tokenizer)
    # The toy model knows no code, so whatever is removed counts as good.
    monkeypatch.setattr(iterative, "best_step", lambda steps, *_: steps[-1])
    small = config.UnlearnConfig(steps=1, tokens=512, evaluation_tokens=512, block_size=64, controls=0, ffn_fraction=0.1)
    monkeypatch.setitem(config.PRESETS, "default", small)
    monkeypatch.setitem(config.PRESETS, "paper", small)
    dataset = Dataset.from_dict({"text": SENTENCES})
    rows = "\n".join(f'{index},"{text.replace("letter", "ticket")}"' for index, text in enumerate(SENTENCES))
    Path("tickets.csv").write_text(f"id,body\n{rows}\n")
    return {
        "name": "toy",
        "tokenizer": tokenizer,
        "dataset": dataset,
        "blocks": untangle.token_blocks(dataset, tokenizer, tokens=512),
    }


def test_the_snippets_of_the_readme_run_in_order(reader):
    assert len(SNIPPETS) >= 5
    for snippet in SNIPPETS:
        exec(compile(snippet, str(README), "exec"), reader)
    assert Path("smollm2-without-code/report.html").exists() and Path("general.safetensors").exists()
