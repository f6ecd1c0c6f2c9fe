"""What methods take from `code` for what they disrupt in prose that no one told them of, and what comes back.

    python benchmarks/methods_frontier.py --text prose.txt                        # plain GradDiff, and what `auto` is
    python benchmarks/methods_frontier.py --text prose.txt --runs prune,auto --seeds 3  # on three sets of train documents
    python benchmarks/methods_frontier.py --text prose.txt --runs auto --set alpha=20 --set retain_objective=nll

SmolLM2-135M-Instruct. Every row is one judgement on held-out test parts, and on the first 2,048
tokens of the file: relative change of top-1 accuracy, and KL(original || model) in nats per token over the whole vocabulary.
In the end all weights are trained on code that was not used, 512 tokens per step at a learning rate of 2e-5: the lines that
begin with `relearned` say how much of code is missing then.
"""

import argparse
import platform
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, Part, Reader, corpus
from hf_untangle.evaluation.self_written import own_text
from hf_untangle.methods.automatic import COMPOSITION, TRAINED
from hf_untangle.methods.combined_loss import Ask, prepare
from hf_untangle.methods.descent import Pace, descend
from hf_untangle.methods.settings import MethodConfig
from hf_untangle.methods.writes import Permission, writable
from hf_untangle.recipes.read import parse_override

WIDTH, ROWS, BATCH = 256, 4, 4
RELEARNED = 16
"""Blocks of code that the model is taught again by, two in a step."""
PLAIN: Mapping[str, Any] = {"retain_objective": "nll", "alpha": 1.0, "learning_rate": 1e-4, "steps": 16, "evaluate_every": 4}
RUNS: dict[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "plain graddiff": ("graddiff", ("general",), PLAIN),
    "auto": (TRAINED, ("general", "self"), COMPOSITION),
    "auto without self": (TRAINED, ("general",), COMPOSITION),
    "half power": (TRAINED, ("general", "self"), {**COMPOSITION, "beta": 0.5}),
    "wga": (TRAINED, ("general", "self"), {**COMPOSITION, "beta": 1.0}),
    "ascent": ("graddiff", ("general", "self"), COMPOSITION),
    "npo": ("npo", ("general", "self"), {**COMPOSITION, "beta": 3.0}),
}
"""Method, retain corpora and settings of every run that trains."""
PRUNING = "prune"
"""The run that removes neurons, with the settings of `unlearn(method="prune")` and no budget."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", required=True, type=Path, help="prose of another kind, in one file")
    parser.add_argument("--runs", default="plain graddiff,auto", help="which of: " + ", ".join((PRUNING, *RUNS)))
    parser.add_argument("--seeds", type=int, default=1, help="orders of the train documents, of which the first are read")
    parser.add_argument("--first", type=int, default=0, help="the first of these orders")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {args.dtype}, {date.today()}")
    print("| run | set | step | code | general | KL | unseen prose | KL | seconds |\n|---|---|---|---|---|---|---|---|---|")
    changed = dict(map(parse_override, args.settings))
    for seed in range(args.first, args.first + args.seeds):
        for name in args.runs.split(","):
            if name.strip() == PRUNING:
                prune(seed, changed, args.text, args.dtype)
            else:
                run(name.strip(), seed, changed, args.text, args.dtype)


def prune(seed: int, changed: dict[str, Any], text: Path, dtype: models.Dtype) -> None:
    """Prune with one set of blocks, judge the mask of every step, and teach the last one again."""
    model, tokenizer = models.load("smollm2", dtype=dtype)
    referee = Referee.of(model, tokenizer, text)
    free = {"retain_budget": 1.0, "perplexity_budget": float("inf"), "controls": 0, "seed": seed}
    how = {"method": PRUNING, "tokenizer": tokenizer, "prompts": [], "progress": False}
    found = untangle.unlearn(model, with_shuffled("code", seed), with_shuffled("general", seed), **how, **free, **changed)
    seconds = found.record.seconds / len(found.mask_path)
    model, _ = models.load("smollm2", dtype=dtype)
    for step, mask in enumerate(found.mask_path, 1):
        with untangle.masked(model, mask):
            print(f"| {PRUNING} | {seed} | {step} | {referee.judged(model)} | {seconds * step:.0f} |", flush=True)
    code = token_blocks(shuffled("code", seed), tokenizer, tokens=(64 + RELEARNED) * WIDTH, part="train", block_size=WIDTH)
    teach_again(PRUNING, seed, found.model, code.rows(slice(64, 64 + RELEARNED)), referee)


def run(name: str, seed: int, changed: dict[str, Any], text: Path, dtype: models.Dtype) -> None:
    """Unlearn with one composition and one set of blocks, and teach it again."""
    method, retained, settings = RUNS[name]
    own = MethodConfig(**{**settings, **changed})
    model, tokenizer = models.load("smollm2", dtype=dtype)
    rows = own.steps * ROWS
    code = token_blocks(shuffled("code", seed), tokenizer, tokens=(rows + RELEARNED) * WIDTH, part="train", block_size=WIDTH)
    forget, unused = code.rows(slice(0, rows)), code.rows(slice(rows, rows + RELEARNED))
    written = partial(own_text, model, tokenizer, texts=150, unlike=corpus("code"), seed=seed)
    kept = [written() if one == "self" else shuffled(one, seed) for one in retained]
    retain = token_blocks(kept, tokenizer, tokens=rows * WIDTH, part="train", block_size=WIDTH)
    referee, start = Referee.of(model, tokenizer, text), time.perf_counter()
    ask = Ask(neuron_groups(model), tokenizer, 0, None, BATCH, seed)
    objective = prepare(model, own.apply_to(method), forget, retain, ask)
    with writable(model, objective.method.writes, Permission(ask.groups, seed=seed)) as opened:
        pace = Pace(own.learning_rate or 1e-4, own.steps, ROWS, BATCH, own.max_grad_norm, "adamw", seed)
        for step, _ in enumerate(descend(model, opened, objective, pace), 1):
            if step % own.evaluate_every == 0 or step == own.steps:
                paused = time.perf_counter()
                print(f"| {name} | {seed} | {step} | {referee.judged(model)} | {paused - start:.0f} |", flush=True)
                start += time.perf_counter() - paused
        opened.finish_()
    teach_again(name, seed, model, unused, referee)


def teach_again(name: str, seed: int, model: PreTrainedModel, unused: TokenBlocks, referee: "Referee") -> None:
    """Print what is missing of code while the model is trained on code that was not used."""
    for step in relearned(model, unused):
        print(f"| {name}, relearned | {seed} | {step} | {referee.change('code', model):+.1%} | | | | | |", flush=True)


def shuffled(name: str, seed: int) -> Corpus:
    """The train documents of a corpus, in another order for every seed."""
    texts = list(corpus(name).documents("train"))
    random.Random(seed).shuffle(texts)
    return corpus(texts, name=name, split="all")


def with_shuffled(name: str, seed: int) -> Corpus:
    """A corpus whose train documents are in another order for every seed."""
    whole = corpus(name)
    parts: dict[Part, Reader] = {part: partial(whole.documents, part) for part in ("validation", "test")}
    return replace(whole, own={"train": partial(shuffled(name, seed).documents, "train"), **parts})


@dataclass(frozen=True, eq=False)
class Referee:
    """The original's predictions of what models are judged on."""

    ids: Mapping[str, Tensor]
    hits: Mapping[str, int]
    log_p: Mapping[str, Sequence[Tensor]]

    @classmethod
    def of(cls, original: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: Path) -> "Referee":
        """Ask the original."""
        how = {"tokens": 4096, "part": "test", "block_size": WIDTH}
        ids = {name: token_blocks(name, tokenizer, **how).input_ids for name in ("code", "general")}
        prose = tokenizer(text.read_text()[:40_000], return_tensors="pt")["input_ids"][0][: 8 * WIDTH]
        ids["prose"] = prose.view(-1, WIDTH)
        hits = {name: hits_of(original, one) for name, one in ids.items()}
        log_p = {name: [p.half() for p, _ in predictions(original, ids[name])] for name in ("general", "prose")}
        return cls(ids, hits, log_p)

    def change(self, name: str, model: PreTrainedModel) -> float:
        """Relative change of top-1 accuracy."""
        return hits_of(model, self.ids[name]) / self.hits[name] - 1

    def judged(self, model: PreTrainedModel) -> str:
        """The cells of a row."""
        cells = [f"{self.change('code', model):+.1%}"]
        for name in ("general", "prose"):
            cells += [f"{self.change(name, model):+.1%}", f"{self.divergence(name, model):.4f}"]
        return " | ".join(cells)

    def divergence(self, name: str, model: PreTrainedModel) -> float:
        """KL(original || model), in nats per token."""
        pairs = zip(self.log_p[name], predictions(model, self.ids[name]), strict=True)
        sums = [((p := kept.float()).exp() * (p - now)).sum(-1) for kept, (now, _) in pairs]
        return float(torch.cat([one.flatten() for one in sums]).mean())


@torch.no_grad()
def predictions(model: PreTrainedModel, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Log-probabilities and the tokens that follow, batch by batch."""
    model.eval()
    for batch in ids.split(BATCH):
        yield F.log_softmax(model(batch).logits[:, :-1].float(), -1), batch[:, 1:]


def hits_of(model: PreTrainedModel, ids: Tensor) -> int:
    """How many tokens are predicted rightly."""
    return sum(int((p.argmax(-1) == tokens).sum()) for p, tokens in predictions(model, ids))


def relearned(model: PreTrainedModel, blocks: TokenBlocks) -> Iterator[int]:
    """Train all weights in float32, which rounds no step away, on code that was not used, and stop at every fourth step."""
    model.float().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, weight_decay=0.0)
    for step, ids in enumerate(blocks.input_ids.split(2), 1):
        logits = model(ids).logits[:, :-1]
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 4 == 0:
            yield step


if __name__ == "__main__":
    main()
