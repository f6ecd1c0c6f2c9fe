"""The referee of scores: which of them finds neurons that a language is known to live in?

    python benchmarks/planted.py                  # three models, their gold models, every importance and score
    python benchmarks/planted.py --seeds 1 --steps 300

`hf_untangle.papers.planted` trains a small Llama on two languages and lets the second be learnt by an eighth of the neurons
alone. Every
score removes as many FFN and as many attention neurons as were planted, so that its precision is its recall: the share of the
planted neurons that it found. Random neurons find an eighth. What that does to both languages stands beside a gold model,
which never saw the second one: below what the gold model predicts of it, forgetting is damage. The last table has how fast the
second language is learnt again, with the removed neurons held at zero. All numbers are means over models, with the lowest and
the highest.
"""

import argparse
import os
import platform
import time
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from statistics import fmean
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from hf_untangle.architecture.neurons import KINDS, Kind, NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.importance.registry import IMPORTANCE, needs_of
from hf_untangle.masks.ablation import Ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.papers.planted.languages import as_blocks, languages
from hf_untangle.papers.planted.planted_model import BATCH, planted_model
from hf_untangle.pruning.step import Evidence, Pair, ablation_constants, gather, remove_next

BLOCKS = 512
"""Blocks of either language that scores are computed on, and that accuracy is measured on."""
HELD_OUT = 10**6
"""Seed of held-out text, beyond those of training."""
SHARE = 0.125
"""Share of every group that is planted."""
VARIANTS: dict[str, dict] = {
    "ratio": {},
    "difference": {"score": "difference"},
    "distance": {"score": "distance"},
    "rank": {"score": "rank"},
    "forget": {"score": "forget"},
    "forget, veto 25%": {"score": "forget", "veto": 0.25},
    "ratio by layer": {"scope": "layer"},
    "ratio, candidates": {"candidates": 4.0},
}
"""Columns of the table of importances: settings beside `score=ratio` and no candidates."""
JUDGED: dict[str, dict] = {
    "rms": {},
    "wanda": {"importance": "wanda"},
    "taylor": {"importance": "taylor"},
    "fisher": {"importance": "fisher"},
    "signed-taylor, difference": {"importance": "signed-taylor", "score": "difference"},
    "rms+taylor": {"importance": "rms+taylor"},
    "rms, candidates (default)": {"candidates": 4.0},
    "rms, candidates, in 4 steps (default)": {"candidates": 4.0, "steps": 4},
    "predicted loss of all neurons": {"candidates": 8.0},
    "taylor, in 4 steps": {"importance": "taylor", "steps": 4},
    "random": {"importance": "random", "score": "forget"},
}
"""Rows of the tables of both languages, and of relearning."""
ALL_NEURONS = 1 / SHARE
"""Candidates for each neuron that goes when every neuron is one, in one step of the size of what is planted."""
WEIGHTED: dict[str, dict] = (
    {f"predicted loss of all neurons, retain_weight={w}": {"candidates": ALL_NEURONS, "retain_weight": w} for w in (1, 5, 20)}
    | {f"default, retain_weight={w}, in 4 steps": {"candidates": 4.0, "retain_weight": w, "steps": 4} for w in (1, 5, 20)}
    | {
        f"predicted loss of all neurons, retain_weight={w}, in 4 steps": {
            "candidates": 4 * ALL_NEURONS,
            "retain_weight": w,
            "steps": 4,
        }
        for w in (1, 5, 20)
    }
)
"""Rows of a second table of both languages: what a nat on retain counts as, and how many candidates there are."""
ABLATIONS: tuple[Ablation, ...] = ("zero", "mean", "mode")
EVIDENCE = "rms+sqrt+wanda+taylor"
"""Importances whose needs are everything that can be collected."""


@dataclass(frozen=True)
class Bench:
    """One model with its gold model, and everything that scores are computed from."""

    seed: int
    model: LlamaForCausalLM
    gold: LlamaForCausalLM
    groups: tuple[NeuronGroup, ...]
    planted: NeuronMask
    train: Pair
    test: Pair
    evidence: Evidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="models")
    parser.add_argument("--steps", type=int, default=600, help="steps of training")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    benches = [prepare(seed, args.steps) for seed in range(args.seeds)]
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, 1 thread, float32; {args.seeds} models")
    print(f"{args.steps} steps of {2 * BATCH} blocks each, {time.perf_counter() - start:.0f} s of training")
    table_of_importances(benches)
    masks = {name: [chosen(bench, settings) for bench in benches] for name, settings in JUDGED.items()}
    masks["the planted neurons"] = [bench.planted for bench in benches]
    table_of_languages(benches, masks)
    table_of_languages(benches, {name: [chosen(bench, how) for bench in benches] for name, how in WEIGHTED.items()})
    table_of_ablations(benches, masks)
    table_of_relearning(benches, masks)


def prepare(seed: int, steps: int) -> Bench:
    """Train both models, and look at the neurons of the one that knows both languages."""
    planted = planted_model(seed, steps=steps, share=SHARE)
    model, groups = planted.model, planted.groups
    gold = planted_model(seed, steps=steps, share=SHARE, gold=True).model
    train, test = read(seed, HELD_OUT), read(seed, HELD_OUT + 1)
    evidence = gather(model, groups, train, settings_of({"importance": EVIDENCE}), progress=False)
    return Bench(seed, model, gold, groups, planted.mask, train, test, evidence)


def read(seed: int, text: int) -> Pair:
    """Text of the second language, which is to be forgotten, and of the first."""
    first, second = languages(seed)
    return Pair(*(as_blocks(one.text(BLOCKS, text), name, "test") for one, name in ((second, "second"), (first, "first"))))


def settings_of(settings: dict) -> UnlearnConfig:
    """Settings that remove as many neurons of each kind as are planted, after all steps."""
    share = SHARE / settings.get("steps", 1)
    fixed = {"ffn_fraction": share, "attention_fraction": share, "gradient_tokens": 10**6, "batch_size": 64}
    return UnlearnConfig().with_settings(**{"candidates": 1.0} | fixed | settings)


def chosen(bench: Bench, settings: dict) -> NeuronMask:
    """The mask that some settings choose, in one step or looking again at what is left before each of several."""
    config = settings_of(settings)
    mask = remove_next(NeuronMask.keep_all(bench.groups, "planted"), bench.evidence, bench.groups, config)
    for _ in range(config.steps - 1 if "steps" in settings else 0):
        with masked(bench.model, mask):
            evidence = gather(bench.model, bench.groups, bench.train, config, progress=False)
        mask = remove_next(mask, evidence, bench.groups, config)
    return mask


def found(bench: Bench, mask: NeuronMask, kind: Kind | None = None) -> float:
    """Share of the planted neurons that a mask removes too."""
    return (mask | bench.planted).removed(kind) / bench.planted.removed(kind)


def table_of_importances(benches: list[Bench]) -> None:
    """Print how many of the planted neurons each importance finds with each score."""
    print(f"\n| planted neurons found, % | {' | '.join(VARIANTS)} |\n|{'---|' * (1 + len(VARIANTS))}")
    for importance in (name for name in IMPORTANCE if "second moments" not in needs_of(name)):
        cells = []
        for settings in VARIANTS.values():
            masks = [chosen(bench, {"importance": importance} | settings) for bench in benches]
            cells.append(spread([100 * found(*pair) for pair in zip(benches, masks, strict=True)], digits=0))
        print(f"| {importance} | {' | '.join(cells)} |", flush=True)


def table_of_languages(benches: list[Bench], masks: dict[str, list[NeuronMask]]) -> None:
    """Print what some masks find, and what both languages lose by them."""
    print("\n| mask | FFN found, % | attention found, % | first top-1, % | second top-1, % | beyond gold | loss of second |")
    print("|---|---|---|---|---|---|---|")
    print_languages("none", benches, [bench.model for bench in benches], [])
    print_languages("gold model", benches, [bench.gold for bench in benches], [])
    for name, several in masks.items():
        hits = [[100 * found(*pair, kind) for pair in zip(benches, several, strict=True)] for kind in KINDS]
        removed = [remove_(deepcopy(bench.model), mask, bench.groups) for bench, mask in zip(benches, several, strict=True)]
        print_languages(name, benches, removed, hits)


def measured(model: PreTrainedModel, blocks: Any) -> NextTokenMetrics:
    """What a model predicts of some blocks of tokens."""
    return next_token_metrics(model, blocks, progress=False)


def print_languages(name: str, benches: list[Bench], models: list, hits: list[list[float]]) -> None:
    """Print one row: accuracy on both languages, and how much less is known of the second than a gold model knows."""
    pairs = list(zip(benches, models, strict=True))
    first = [100 * measured(model, bench.test.retain).top1 for bench, model in pairs]
    second = [measured(model, bench.test.forget) for bench, model in pairs]
    gold = [measured(bench.gold, bench.test.forget).top1 for bench in benches]
    beyond = [100 * (other - one.top1) for one, other in zip(second, gold, strict=True)]
    columns = [first, [100 * one.top1 for one in second], beyond]
    cells = [*(spread(values, digits=0) for values in hits), *([""] * (2 - len(hits))), *map(spread, columns)]
    print(f"| {name} | {' | '.join(cells)} | {spread([one.loss for one in second], digits=2)} |", flush=True)


def table_of_ablations(benches: list[Bench], masks: dict[str, list[NeuronMask]]) -> None:
    """Print what is left of both languages when removed neurons read zero, their mean or their mode on the first."""
    print(f"\n| first / second top-1, % | {' | '.join(ABLATIONS)} |\n|{'---|' * (1 + len(ABLATIONS))}")
    for name, several in masks.items():
        cells = []
        for ablation in ABLATIONS:
            kept = [filled(bench, mask, ablation) for bench, mask in zip(benches, several, strict=True)]
            cells.append(" / ".join(spread(list(values)) for values in zip(*kept, strict=True)))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def filled(bench: Bench, mask: NeuronMask, ablation: Ablation) -> tuple[float, float]:
    """Accuracy on the first and on the second language while removed neurons are held at what the ablation says."""
    how = {"batch_size": 64, "progress": False}
    values = ablation_constants(ablation, bench.model, bench.evidence.retain, bench.train.retain, bench.groups, **how)
    with masked(bench.model, mask, constants=values):
        first, second = (measured(bench.model, one) for one in (bench.test.retain, bench.test.forget))
    return 100 * first.top1, 100 * second.top1


def table_of_relearning(benches: list[Bench], masks: dict[str, list[NeuronMask]]) -> None:
    """Print how the second language comes back, step by step of training on it alone."""
    moments = (0, 5, 10, 20, 40, 80)
    print(f"\n| second top-1, %, relearnt from | {' | '.join(f'{moment} steps' for moment in moments)} |")
    print(f"|{'---|' * (1 + len(moments))}")
    models: dict[str, list[Any]] = {"gold model": [bench.gold for bench in benches]}
    models["gold model without the planted neurons"] = [
        remove_(deepcopy(bench.gold), bench.planted, bench.groups) for bench in benches
    ]
    for name, several in masks.items():
        models[name] = [
            remove_(deepcopy(bench.model), mask, bench.groups) for bench, mask in zip(benches, several, strict=True)
        ]
    for name, several in models.items():
        curves = [relearnt(bench, deepcopy(model), moments) for bench, model in zip(benches, several, strict=True)]
        print(f"| {name} | {' | '.join(spread(list(values)) for values in zip(*curves, strict=True))} |", flush=True)


def relearnt(bench: Bench, model: LlamaForCausalLM, moments: tuple[int, ...]) -> list[float]:
    """Accuracy on the second language after some steps of 8 blocks; removed neurons have no gradient, so they stay away."""
    _, language = languages(bench.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    curve = []
    for step in range(max(moments) + 1):
        if step in moments:
            curve.append(100 * measured(model, bench.test.forget).top1)
        ids = language.text(8, seed=2 * HELD_OUT + step)
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
    return curve


def spread(values: list[float], digits: int = 1) -> str:
    """The mean, with the lowest and the highest."""
    mean, low, high = (f"{value:.{digits}f}" for value in (fmean(values), min(values), max(values)))
    return mean if len(values) == 1 else f"{mean} ({low} to {high})"


if __name__ == "__main__":
    main()
