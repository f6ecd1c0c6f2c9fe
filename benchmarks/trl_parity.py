"""Tokenize the same rows by trl's SFTTrainer and by this package, and compare ids and masks token for token.

    pip install trl    # in an environment of its own: this package does not depend on it
    python benchmarks/trl_parity.py

Rows are made of the prose of this package: chats of two turns (trl with `assistant_only_loss=True`), and the same as prompt and
completion (`completion_only_loss=True`), in the chat templates that trl has a form of to train by. The tokenizer is SmolLM2's.
"""

import logging
import re
import tempfile
from copy import deepcopy
from pathlib import Path

import trl
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

import hf_untangle as untangle
from hf_untangle.data.batches import token_blocks

WIDTH = 1024
Row = tuple[list[int], list[bool]]


def chats(count: int) -> list[list[dict]]:
    """Chats of two turns, whose answers are what follows in a text."""
    texts = (" ".join(text.split()) for text in untangle.corpus("general", prefer="embedded").documents("train"))
    found = []
    for text in texts:
        parts = [part for part in re.split(r"(?<=[.!?]) ", text) if 20 < len(part) < 200][:4]
        if len(parts) == 4:
            roles = ("user", "assistant", "user", "assistant")
            found.append([{"role": role, "content": part} for role, part in zip(roles, parts, strict=True)])
        if len(found) == count:
            break
    return found


def by_trl(rows: list[dict], tokenizer, **how: bool) -> list[Row]:
    """Ids and what counts, as SFTTrainer prepares a data set."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    with tempfile.TemporaryDirectory() as folder:
        settings = trl.SFTConfig(folder, max_length=WIDTH, report_to="none", use_cpu=True, bf16=False, **how)
        data = trl.SFTTrainer(model, settings, train_dataset=Dataset.from_list(rows), processing_class=deepcopy(tokenizer))
        return [(list(row["input_ids"]), [label != -100 for label in row["labels"]]) for row in data.train_dataset]


def by_us(rows: list[dict], tokenizer) -> list[Row]:
    """Ids and what counts, as `unlearn` reads a corpus."""
    corpus = untangle.corpus(rows, split="all", name="rows")
    blocks = token_blocks(corpus, tokenizer, tokens=WIDTH * len(rows), block_size=WIDTH, excerpt=None)
    there = zip(blocks.input_ids, blocks.attention_mask, blocks.answers, strict=True)
    return [(ids[mask.bool()].tolist(), answers[mask.bool()].tolist()) for ids, mask, answers in there]


def compare(name: str, rows: list[dict], tokenizer, **how: bool) -> str:
    """One line of the table."""
    theirs, ours = by_trl(rows, tokenizer, **how), by_us(rows, tokenizer)
    ids = sum(mine[0] == their[0] for mine, their in zip(ours, theirs, strict=True))
    tokens = sum(len(row[0]) for row in theirs)
    counted, equal, extra = sum(sum(row[1]) for row in theirs), 0, []
    for (mine, wanted), (_, marked) in zip(ours, theirs, strict=True):
        equal += sum(one == other for one, other in zip(wanted, marked, strict=True)) if len(wanted) == len(marked) else 0
        extra += [one for one, a, b in zip(mine, wanted, marked, strict=False) if a != b]
    which = ", ".join(sorted({repr(tokenizer.decode([one])) for one in extra})[:4])
    return f"| {name} | {ids} of {len(rows)} | {equal:,} of {tokens:,} | {counted:,} | {which} |"


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)
    _, original = untangle.load("smollm2")
    conversations = chats(100)
    print(
        "| template, rows | equal ids | tokens whose mask is equal | tokens that count | where they differ |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    folder = Path(trl.__file__).parent / "chat_templates"
    for file in sorted(folder.glob("*_training.jinja")):
        template = (folder / file.name.replace("_training", "")).read_text()
        tokenizer = deepcopy(original)
        special = sorted(set(re.findall(r"<[|｜]?[A-Za-z_/][^\s<>'\"]*[|｜]?>", template)) - set(tokenizer.get_vocab()))
        tokenizer.add_special_tokens({"additional_special_tokens": special})
        tokenizer.chat_template = template
        name = file.name.removesuffix("_training.jinja")
        pairs = [{"prompt": chat[:3], "completion": chat[3:]} for chat in conversations]
        for kind, rows, how in (
            ("messages", [{"messages": chat} for chat in conversations], {"assistant_only_loss": True}),
            ("prompt + completion", pairs, {"completion_only_loss": True}),
        ):
            try:
                print(compare(f"{name}, {kind}", rows, tokenizer, **how), flush=True)
            except Exception as error:  # Templates that take pictures, or that this version of trl has no marks for.
                print(f"| {name}, {kind} | {type(error).__name__}: {str(error).partition(chr(10))[0][:70]} | | | |", flush=True)


if __name__ == "__main__":
    main()
