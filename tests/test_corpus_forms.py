"""Every form of a corpus that `unlearn` takes is taken by `bench`, `evaluate` and `attack`, and means the same there."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from toy_languages import BLOCK, NUMBERS, WORDS

from hf_untangle import attack, evaluate
from hf_untangle.bench import Cell, bench_methods
from hf_untangle.data.corpora import corpus
from hf_untangle.data.held_out import held_out_blocks
from hf_untangle.data.two_corpora import sided, two_corpora

TEXTS = NUMBERS[:90]
TOKENS = {"tokens": 256, "block_size": BLOCK}


def halves(text: str) -> tuple[str, str]:
    """A prompt and what follows it."""
    return text[: len(text) // 2], text[len(text) // 2 :]


def turns(text: str) -> list[dict[str, str]]:
    """A question and its answer as a chat."""
    asked, answered = halves(text)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]


def written(file: Path, content: str) -> Path:
    """A file."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    return file


def folder(path: Path) -> Path:
    """A folder with a file for every text."""
    for number, text in enumerate(TEXTS):
        written(path / "texts" / f"{number}.txt", text)
    return path / "texts"


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of one shape."""
    made = {
        "text": lambda one: {"text": one},
        "prompt and completion": lambda one: dict(zip(("prompt", "completion"), halves(one), strict=True)),
        "question and answer": lambda one: dict(zip(("question", "answer"), halves(one), strict=True)),
        "instruction and output": lambda one: dict(zip(("instruction", "output"), halves(one), strict=True)),
        "choices": lambda one: {"question": halves(one)[0], "choices": ["none", halves(one)[1]], "answer": 1},
        "preference": lambda one: {"prompt": one[:4], "chosen": " a cat", "rejected": one[4:]},
        "label": lambda one: dict(zip(("prompt", "completion"), halves(one), strict=True)) | {"label": one < NUMBERS[0]},
        "token ids": lambda one: {"input_ids": list(one.encode()), "labels": [-100] * 4 + list(one.encode()[4:])},
    }
    return list(map(made[name], TEXTS))


FORMS: dict[str, Callable[[Path], Any]] = {
    **{shape: lambda path, shape=shape: rows(shape) for shape in ("text", "prompt and completion", "question and answer")},
    **{shape: lambda path, shape=shape: rows(shape) for shape in ("instruction and output", "choices", "preference", "label")},
    "chats": lambda path: corpus([{"messages": turns(text)} for text in TEXTS], chat=False),  # The tokenizer has no template.
    "token ids": lambda path: rows("token ids"),
    "strings": lambda path: list(TEXTS),
    "an iterator": lambda path: iter(TEXTS),
    "a jsonl file": lambda path: written(path / "a.jsonl", "\n".join(map(json.dumps, rows("question and answer")))),
    "a csv file": lambda path: str(written(path / "a.csv", pd.DataFrame(rows("text")).to_csv(index=False))),
    "a column of a csv file": lambda path: f"{written(path / 'b.csv', pd.DataFrame({'note': TEXTS, 'n': 1}).to_csv())}:note",
    "a text file": lambda path: written(path / "a.txt", "\n\n".join(TEXTS)),
    "a folder": folder,
    "a Dataset": lambda path: Dataset.from_list(rows("instruction and output")),
    "a DatasetDict": lambda path: DatasetDict(
        {"train": Dataset.from_list(rows("text")), "test": Dataset.from_list(rows("text")[:20])}
    ),
    "splits": lambda path: {"train": rows("text"), "validation": rows("text")[:20], "test": rows("text")[20:40]},
    "a frame": lambda path: pd.DataFrame(rows("prompt and completion")),
    "several": lambda path: [TEXTS[:45], rows("question and answer")[45:]],
    "a corpus": lambda path: corpus(list(TEXTS), name="mine"),
    "a name": lambda path: "facts-forget",
}
"""How a corpus may come, all but sets of the Hub."""


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_taken_everywhere_and_read_as_unlearn_reads_it(
    form, project, tokenizer, unlearned, tmp_path, monkeypatch
):
    def source() -> Any:
        return FORMS[form](tmp_path)

    forget, _ = two_corpora(source(), WORDS)
    expected = held_out_blocks(forget, tokenizer, part="test", **TOKENS).first

    bench = import_module("hf_untangle.bench.methods")
    monkeypatch.setattr(bench, "_cell", lambda task, method, seed, examiner: Cell(method=method, seed=seed, seconds=0.0))
    settings = {"evaluation_tokens": 256, "tokens": 512, "block_size": BLOCK, "methods": ("prune",), "progress": False}
    record = bench_methods(str(project / "toy"), source(), WORDS, also={"more": source()}, **settings)
    assert record.corpora["forget"]["fingerprint"] == expected.fingerprint
    assert record.corpora["also: more"]["tokens"] > 0

    judged = sided(corpus(source()), "forget") if forget.two_sided else source()
    found = evaluate(unlearned.model, judged, tokenizer=tokenizer, progress=False, **TOKENS)
    assert found.values["perplexity"] > 1 and len(found.values) >= 2

    report = attack(
        unlearned,
        original=str(project / "toy"),
        neighbor=source(),
        attacks=["neighbor"],
        evaluation_tokens=256,
        seeds=1,
        progress=False,
    )
    (outcome,) = report.record.outcomes
    assert outcome.error is None and {one.model for one in outcome.readings} >= {"original", "unlearned"}
    original = next(one for one in outcome.readings if one.model == "original")
    assert original.forget.tokens > 0
