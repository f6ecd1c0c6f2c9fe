"""What a reader of the documentation has at hand: a tiny model, corpora and files, under the names that pages use."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from chat_templates import CHATML
from datasets import Dataset
from hub_server import HubServer, Repository
from pydantic import BaseModel
from toy_languages import BLOCK, NUMBERS, SMALL, WORDS
from trainers import a_trainer, examples
from transformers import AutoModelForCausalLM, AutoTokenizer

import hf_untangle as untangle
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.unlearn import PRESETS, UnlearnConfig
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.catalogue import CORPORA
from hf_untangle.data.embedded import Embedded
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.models import EMBEDDED
from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig
from hf_untangle.survey.tiny_models import tiny_model

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
"""A block of Python; the comment before it says why it is not executed."""

SMALLER: dict[type[BaseModel], dict[str, Any]] = {
    UnlearnConfig: SMALL | {"steps": 1, "ffn_fraction": 0.1, "attention_fraction": 0.05, "retain_budget": 0.9, "controls": 0},
    PruneConfig: {"tokens": 1024, "evaluation_tokens": 512, "block_size": BLOCK},
    RepairConfig: {"steps": 2, "step_tokens": 128, "block_size": BLOCK, "batch_size": 4, "evaluation_tokens": 512},
    MethodConfig: {"steps": 4, "step_rows": 8, "search": (10.0,)},
    AttackConfig: {"steps": 2, "step_tokens": 128, "block_size": BLOCK, "evaluation_tokens": 512, "seeds": 1}
    | {"learning_rates": (1e-3,), "relearn_methods": ("lora",), "warmups": (0.0,), "points": 1},
    ContrastExperimentConfig: {"steps": 5, "seeds": 1, "problems": 64, "untrained": 9.0},
}
"""Defaults that fit the toy languages."""


@dataclass(frozen=True)
class Block:
    """One block of Python on a page."""

    line: int
    code: str
    reason: str | None
    """Why it is not executed."""


def blocks_of(page: Path) -> list[Block]:
    """Find all blocks of Python on a page."""
    text = page.read_text(encoding="utf-8")
    found = FENCE.finditer(text)
    return [Block(text.count("\n", 0, one.start("code")) + 1, one["code"], one["reason"]) for one in found]


def names_read(blocks: list[Block]) -> set[str]:
    """Tell which names the blocks use."""
    trees = [ast.parse(block.code) for block in blocks if block.reason is None]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


@contextmanager
def smaller_defaults() -> Iterator[None]:
    """Let all settings have defaults that fit the toy languages inside the `with` block."""
    usual = {kind: {name: kind.model_fields[name].default for name in fields} for kind, fields in SMALLER.items()}
    try:
        _set_defaults(SMALLER)
        yield
    finally:
        _set_defaults(usual)


def _set_defaults(defaults: dict[type[BaseModel], dict[str, Any]]) -> None:
    for kind, fields in defaults.items():
        for name, value in fields.items():
            kind.model_fields[name].default = value
        kind.model_rebuild(force=True)


def prepare(monkeypatch: Any, hub: HubServer, project: Path) -> None:
    """Let the named corpora be the toy languages, and the SmolLM2 of the Hub the toy model."""
    monkeypatch.setattr("hf_untangle.data.corpora.hub_is_reachable", lambda: False)
    for name, texts in (("code", NUMBERS), ("general", WORDS)):
        monkeypatch.setitem(CORPORA, name, replace(CORPORA[name], embedded=Embedded(name, "unknown", partial(iter, texts))))
    monkeypatch.delitem(EMBEDDED, "smollm2")
    monkeypatch.setattr("hf_untangle.configs.attack.QUICK", AttackConfig())
    for name in PRESETS:
        monkeypatch.setitem(PRESETS, name, UnlearnConfig())
    files = {file.name: file.read_bytes() for file in (project / "toy").iterdir()}
    hub.repositories["HuggingFaceTB/SmolLM2-135M-Instruct"] = Repository(files=files, commits=[files])


def write_files(project: Path) -> None:
    """Write the files and folders that pages name into the working folder."""
    pairs = [
        {"prompt": f"Count on from {text[:5]}.", "answer": text[6:20], "paraphrase": text[6:20], "wrong": [text[20:30]]}
        | {"choices": [text[6:20], text[20:30]]}
        for text in NUMBERS[:8]
    ]
    Path("questions.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    for name, texts in (("forget", NUMBERS[:40]), ("never-seen", NUMBERS[40:80])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Path("tickets.csv").write_text("id,body\n" + "".join(f'{row},"{text}"\n' for row, text in enumerate(NUMBERS)))
    for name, texts in (("tickets", NUMBERS[:90]), ("paraphrases", NUMBERS[90:120])):
        chats = ([{"role": "user", "content": text[:5]}, {"role": "assistant", "content": text[6:]}] for text in texts)
        Path(f"{name}.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    Path("letters.csv").write_text("question,answer\n" + "".join(f"{text[:9]},{text[9:]}\n" for text in WORDS[:90]))
    Path("original").symlink_to(project / "toy")


def given(project: Path, unlearned: Any) -> dict[str, Callable[[], Any]]:
    """Names that a page may use without making them, and how each is made."""
    load = partial(AutoModelForCausalLM.from_pretrained, str(project / "toy"))
    tokenizer = AutoTokenizer.from_pretrained(project / "toy")
    tokenizer.chat_template = CHATML

    def blocks(texts: list[str]) -> Any:
        return token_blocks(texts, tokenizer, tokens=512, block_size=BLOCK)

    return {
        "untangle": lambda: untangle,
        "model": lambda: load().eval(),
        "base": lambda: load().eval(),
        "name": lambda: str(project / "toy"),
        "tokenizer": lambda: tokenizer,
        "dataset": lambda: Dataset.from_dict({"text": WORDS}),
        "blocks": lambda: blocks(WORDS),
        "forget_blocks": lambda: blocks(NUMBERS),
        "retain_blocks": lambda: blocks(WORDS),
        "mask": lambda: unlearned.mask,
        "result": lambda: deepcopy(unlearned),
        "statistics": lambda: untangle.collect(load(), blocks(WORDS), progress=False),
        "argmax_ids": lambda: [[1, 2, 3]],
        "answer_ids": lambda: [[1, 2, 4]],
        "arguments": lambda: a_trainer(torch.nn.Linear(1, 1), Path("run")).args,
        "trainer": lambda: a_trainer(load(), Path("run")),
        "tokenized": examples,
        "llava": lambda: tiny_model("llava", "image-text"),
    }
