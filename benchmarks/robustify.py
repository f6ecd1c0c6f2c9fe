"""What does it cost to make unlearning withstand relearning? Planted models, beside gold.

    python benchmarks/robustify.py                      # three models
    python benchmarks/robustify.py --seeds 1 --strengths 0.25

Every model of `planted.py` knows two languages; the second is unlearned by selective pruning with default settings, and by a
few steps of gradient difference, which hides it. Each result is then made robust with several strengths: its weights are shrunk
and perturbed, and what it says of text of the first language is distilled into them, until the tolerance or the most tokens.
The rows have what that costs, in tokens of passes forward, and how the second language comes back by 10, 20 and 40 steps of
training on it, beside a gold model that never saw it. Means over models, with the lowest and the highest.
"""

import argparse
import os
import platform
import time
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
from attack_power import as_text, letters
from planted import HELD_OUT, JUDGED, Bench, chosen, prepare, relearnt, spread
from transformers import LlamaForCausalLM

from hf_untangle.configs.robustify import RobustifyConfig
from hf_untangle.data.corpora import corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.papers.planted.languages import LENGTH, languages
from hf_untangle.repairs.robustify import robustify_measured

MOMENTS = (0, 10, 20, 40)
"""Steps of relearning after which the second language is measured."""
DOCUMENTS = 2000
"""Texts of each language."""
SETTINGS: dict[str, Any] = {
    "tolerance": 0.01,
    "checks": 10,
    "text_tokens": 30_000,
    "own_tokens": 4_096,
    "learning_rate": 2e-3,
    "step_tokens": 2048,
    "block_size": LENGTH,
    "batch_size": 64,
    "evaluation_tokens": 4_096,
}


@dataclass(frozen=True)
class Row:
    """What one model knows, and what it cost to make it robust."""

    name: str
    forward_tokens: int
    nats: float
    """KL(unlearned || robust) at the end."""
    first: float
    """Top-1 on the first language, in percent."""
    second: list[float]
    """Top-1 on the second one, at every moment of relearning."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="models")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=600, help="steps of training")
    parser.add_argument("--strengths", default="0.1,0.25,0.5", help="separated by commas")
    parser.add_argument("--tokens", type=int, default=400_000, help="the most to distill on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    strengths = [float(one) for one in args.strengths.split(",")]
    models = [rows_of(prepare(args.first + n, args.steps), strengths, args.tokens) for n in range(args.seeds)]
    about = f"{args.seeds} models of {args.steps} steps, at most {args.tokens:,} tokens of distillation"
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread, float32; {about}, ", end="")
    print(f"{time.perf_counter() - start:.0f} s")
    headings = ["model", "1,000 tokens forward", "KL, nats", "first top-1, %", *(f"second, {one} steps" for one in MOMENTS)]
    print(f"\n| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for rows in zip(*models, strict=True):
        curves = zip(*(row.second for row in rows), strict=True)
        cells = [spread([row.forward_tokens / 1000 for row in rows], 0), spread([row.nats for row in rows], 3)]
        cells += [spread([row.first for row in rows]), *(spread(list(one)) for one in curves)]
        print(f"| {rows[0].name} | {' | '.join(cells)} |", flush=True)


def rows_of(bench: Bench, strengths: list[float], tokens: int) -> list[Row]:
    """All rows of one model."""
    mask = chosen(bench, JUDGED["rms, candidates, in 4 steps (default)"])
    pruned = remove_(deepcopy(bench.model), mask, bench.groups)
    unlearned: dict[str, tuple[LlamaForCausalLM, NeuronMask | None]] = {
        "pruned": (pruned, mask),
        "gradient difference": (gradient_difference(bench), None),
    }
    rows = [row("gold", bench, bench.gold), row("original", bench, bench.model)]
    for name, (model, removed) in unlearned.items():
        rows.append(row(name, bench, model))
        for strength in strengths:
            robust = deepcopy(model)
            config = RobustifyConfig(**SETTINGS, strength=strength, tokens=tokens, seed=bench.seed)
            record = robustify_measured(
                robust, removed, bench.test, corpora_of(bench.seed), config, tokenizer=letters(), progress=False
            )
            rows.append(row(f"{name}, robust {strength:g}", bench, robust, record.forward_tokens, record.divergences[-1].nats))
    return rows


def row(name: str, bench: Bench, model: LlamaForCausalLM, forward_tokens: int = 0, nats: float = 0.0) -> Row:
    """Measure a model as it is, and as it learns the second language again."""
    first = 100 * next_token_metrics(model, bench.test.retain, progress=False).top1
    return Row(name, forward_tokens, nats, first, relearnt(bench, deepcopy(model), MOMENTS))


def corpora_of(seed: int, documents: int = DOCUMENTS) -> tuple[Any, Any]:
    """Text of the second language, which was forgotten, and of the first."""
    first, second = languages(seed)
    return tuple(
        corpus([as_text(ids) for ids in one.text(documents, 3 * HELD_OUT + seed)], name=name)
        for one, name in ((second, "second"), (first, "first"))
    )


def gradient_difference(bench: Bench, rate: float = 1e-3, most: int = 60) -> LlamaForCausalLM:
    """Climb the loss of the second language and descend that of the first, until no more is known than the gold model knows."""
    first, second = languages(bench.seed)
    gold = next_token_metrics(bench.gold, bench.test.forget, progress=False).top1
    model = deepcopy(bench.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in range(most):
        if next_token_metrics(model, bench.test.forget, progress=False).top1 <= gold:
            break
        texts = [one.text(16, seed=4 * HELD_OUT + step) for one in (first, second)]
        losses = [model(input_ids=ids, labels=ids, use_cache=False).loss for ids in texts]
        optimizer.zero_grad()
        (losses[0] - losses[1]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model


if __name__ == "__main__":
    main()
