"""Which method takes out what was planted, and how fast does it come back, beside gold?

    python benchmarks/planted_methods.py                  # three models, every method
    python benchmarks/planted_methods.py --seeds 1 --methods auto,prune,graddiff

Every model of `planted.py` knows two languages, the second in an eighth of its neurons. Each method forgets the second and
retains the first with the same text, the same budgets and three trials of its learning rate, until it knows no more of the
second than the gold model, which never saw it. `in planted` is the share of the change, in squares of weights of neurons,
that went to the planted eighth. The last columns have the second language after 10, 20 and 40 steps of training on it. Means
over the models in which a method found a step inside the budget, with the lowest and the highest.
"""

import argparse
import math
import os
import platform
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import torch
from attack_power import letters
from planted import SHARE, Bench, measured, prepare, relearnt, spread
from robustify import MOMENTS, corpora_of
from torch import nn

import hf_untangle as untangle
from hf_untangle.errors import BudgetError
from hf_untangle.masks.hold_removed import held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.methods.registry import METHODS
from hf_untangle.papers.planted.languages import LENGTH

DOCUMENTS = 3000
"""Texts of each language."""
SHARED: dict[str, Any] = {
    "tokens": 32_768,
    "evaluation_tokens": 8_192,
    "block_size": LENGTH,
    "batch_size": 64,
    "retain_budget": 0.03,
    "disruption_budget": 0.05,
    "perplexity_budget": math.inf,
    "controls": 0,
    "prompts": [],
    "progress": False,
}
"""Text and budgets of every method."""
TRAINED: dict[str, Any] = {"steps": 64, "step_rows": 16, "evaluate_every": 2, "search": (3.0, 10.0, 30.0), "trial_steps": 16}
"""Of methods that train: small models take larger steps than the language models that the methods' own rates are for."""
PRUNED: dict[str, Any] = {"steps": 8, "ffn_fraction": SHARE / 4, "attention_fraction": SHARE / 4, "gradient_tokens": 8_192}
CONTENDERS = ("auto", "prune", *METHODS, "npo@neurons", "prune+npo")


@dataclass(frozen=True)
class Row:
    """What one method did to one model."""

    in_planted: float
    """Share of the change that went to the planted neurons."""
    first: float
    """Top-1 on the first language, in percent."""
    second: list[float]
    """Top-1 on the second one, at every moment of relearning."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="models")
    parser.add_argument("--steps", type=int, default=600, help="steps of training")
    parser.add_argument("--methods", default=",".join(CONTENDERS), help="separated by commas, as `bench methods` writes them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    benches = [prepare(seed, args.steps) for seed in range(args.seeds)]
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread, float32; ", end="")
    print(f"{args.seeds} models of {args.steps} steps, {time.perf_counter() - start:.0f} s of training")
    print(f"\n| method | in planted, % | first top-1, % | {' | '.join(f'second, {one} steps' for one in MOMENTS)} | models |")
    print(f"|{'---|' * (4 + len(MOMENTS))}")
    show("original", [row(bench, bench.model) for bench in benches], len(benches))
    show("gold", [row(bench, bench.gold) for bench in benches], len(benches))
    for name in args.methods.split(","):
        rows = [one for bench in benches if (one := unlearned(bench, name)) is not None]
        show(name, rows, len(benches))


def show(name: str, rows: list[Row], models: int) -> None:
    """Print a line of the table."""
    if not rows:
        print(f"| {name} | nothing inside the budget |{' |' * (2 + len(MOMENTS))} 0 of {models} |", flush=True)
        return
    curves = zip(*(one.second for one in rows), strict=True)
    planted = "" if math.isnan(rows[0].in_planted) else spread([100 * one.in_planted for one in rows], 0)
    cells = [planted, spread([one.first for one in rows]), *(spread(list(one)) for one in curves)]
    print(f"| {name} | {' | '.join(cells)} | {len(rows)} of {models} |", flush=True)


def unlearned(bench: Bench, name: str) -> Row | None:
    """Let a method forget the second language; None where it finds nothing inside the budget."""
    methods, _, writes = name.partition("@")
    knows, gold = (measured(one, bench.test.forget).top1 for one in (bench.model, bench.gold))
    settings = {**SHARED, "forget_target": 1 - gold / knows, "seed": bench.seed}
    if methods == "prune":
        settings |= PRUNED
    elif methods != "auto":
        settings |= (
            TRAINED | ({"writes": writes} if writes else {}) | ({"ffn_fraction": SHARE / 4} if "prune" in methods else {})
        )
    model = deepcopy(bench.model)
    forget, retain = corpora_of(bench.seed, DOCUMENTS)
    try:
        untangle.unlearn(model, forget, retain, method=methods.split("+"), tokenizer=letters(), **settings)
    except BudgetError:
        return None
    return row(bench, model)


def row(bench: Bench, model: nn.Module) -> Row:
    """Measure a model as it is, and as it learns the second language again."""
    first = 100 * measured(model, bench.test.retain).top1
    return Row(in_planted(bench, model), first, relearnt(bench, deepcopy(model), MOMENTS))


def in_planted(bench: Bench, model: nn.Module) -> float:
    """Share of the change of all neurons' weights that went to planted ones, in squares."""
    every = replace(bench.planted, kept={name: torch.zeros_like(kept) for name, kept in bench.planted.items()})

    def change(mask: NeuronMask) -> float:
        now, before = (held_parameters(one, mask, bench.groups) for one in (model, bench.model))
        pairs = zip(now, before, strict=True)
        return sum(float((a.parameter[a.entries] - b.parameter[b.entries]).detach().square().sum()) for a, b in pairs)

    whole = change(every)
    return change(bench.planted) / whole if whole and model is not bench.gold else math.nan


if __name__ == "__main__":
    main()
