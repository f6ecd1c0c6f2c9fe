"""What the page on entropy shows runs as it is shown, on a tiny model and for fewer steps."""

import re
from pathlib import Path

from toy_languages import WORDS
from transformers import Trainer, TrainingArguments

import hf_untangle
from hf_untangle.callbacks.entropy import EntropyCallback

PAGE = Path(__file__).parents[1] / "docs" / "entropy.md"
QUICKLY = ("shares=(0.3,)", "shares=(0.3,), steps=5, seeds=1, problems=64, untrained=9.0")


def test_the_examples_of_the_page_run_from_top_to_bottom(tiny_model, tokenizer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = tiny_model("llama")
    trainer = Trainer(model, TrainingArguments(str(tmp_path / "run"), report_to="none"))
    names = {"untangle": hf_untangle, "model": model, "tokenizer": tokenizer, "trainer": trainer}
    shown = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(shown) == 3
    for block in shown:
        source = block.replace(*QUICKLY).replace('"general"', repr(WORDS))
        exec(compile(source, str(PAGE), "exec"), names)
    assert capsys.readouterr().out.count("tensor(") == 4 * 3
    assert (tmp_path / "contrast" / "config.json").exists()
    assert any(isinstance(each, EntropyCallback) for each in trainer.callback_handler.callbacks)


def test_every_recipe_of_the_page_is_there():
    named = re.findall(r"recipes/entropy/\w+\.yaml", PAGE.read_text(encoding="utf-8"))
    assert named
    assert all((PAGE.parents[1] / name).is_file() for name in named)
