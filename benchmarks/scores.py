"""Every score of the field on one pipeline: SmolLM2-135M-Instruct, forget `code`, retain `general`.

    python benchmarks/scores.py                          # one shot on three sets of blocks, ablations, and iterative runs
    python benchmarks/scores.py --seeds 1 --only rms --only wanda

For each score, masks of growing size give a curve of forget drop against retain drop on validation parts (relative drops of
top-1 accuracy). A row has the largest difference on it, and the forget drop where the curve reaches a retain drop of 1, 2 and
5%, by straight lines between masks: the mean over sets of blocks, with the lowest and the highest. Sets share no block.
"""

import argparse
import logging
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date

import torch
from frontier import BUDGETS, Curve, curve_of, reached, spread
from transformers import PreTrainedModel

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.blocks import Blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.errors import BudgetError
from hf_untangle.importance.criteria import fisher
from hf_untangle.importance.registry import damping
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.dampening import dampened
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.rotation import rotate_heads_
from hf_untangle.pruning.iterative import search_mask
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Evidence, Pair, ablation_constants, gather, read_pair, remove_next
from hf_untangle.records.unlearning import Scores

FRACTIONS = (0.005, 0.01, 0.02, 0.04, 0.08)
"""Shares of FFN neurons and of attention neurons that the masks of a curve remove."""
ALPHAS = (64.0, 32.0, 16.0, 8.0, 4.0)
"""How many times per neuron must matter more to forget to be dampened, for the curve of SSD."""

METHODS: dict[str, dict] = {
    "rms": {},
    "abs": {"importance": "abs"},
    "std": {"importance": "std"},
    "freq": {"importance": "freq"},
    "wanda": {"importance": "wanda"},
    "fluctuation": {"importance": "fluctuation"},
    "mean, distance": {"importance": "mean", "score": "distance"},
    "rms, difference": {"score": "difference"},
    "rms, rank": {"score": "rank"},
    "rms, veto 10%": {"veto": 0.1},
    "taylor": {"importance": "taylor"},
    "fisher": {"importance": "fisher"},
    "signed-taylor, difference": {"importance": "signed-taylor", "score": "difference"},
    "snip set difference": {"importance": "snip", "score": "forget", "veto": 0.1, "scope": "layer"},
    "rms+taylor": {"importance": "rms+taylor"},
    "rms, candidates": {"candidates": 4.0},
    "wanda, candidates": {"importance": "wanda", "candidates": 4.0},
    "retain only (control)": {"score": "retain"},
    "magnitude (control)": {"importance": "magnitude", "score": "retain"},
    "random (control)": {"importance": "random", "score": "forget"},
}
"""Settings beside `importance=rms`, `score=ratio` and no candidates."""

Edit = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class Set:
    """One set of blocks, and what the original model does on it."""

    train: Pair
    validation: Pair
    base: Scores
    evidence: Evidence


def main() -> None:
    args = arguments()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    model, tokenizer = models.load("smollm2")
    groups = neuron_groups(model)
    config = UnlearnConfig(
        candidates=1, tokens=args.tokens, gradient_tokens=args.gradient_tokens, evaluation_tokens=args.evaluation_tokens
    )
    pairs = list(read_sets(tokenizer, config, args.seeds))
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}")
    print(
        f"a set: {args.tokens:,} tokens of each corpus to choose by, {args.evaluation_tokens:,} to judge by; {args.seeds} sets"
    )
    sets = [observe(model, groups, *pair, config) for pair in pairs]
    print(
        "\n| score, one shot | largest difference | forget at retain 1% | at 2% | at 5% | seconds |\n|---|---|---|---|---|---|"
    )
    for name, settings in METHODS.items():
        if not args.only or name in args.only:
            row(name, model, sets, lambda one, settings=settings: masks(model, groups, one, config, settings))
    for ablation in ("mean", "mode"):
        if not args.only or "rms" in args.only:
            row(
                f"rms, ablation {ablation}",
                model,
                sets,
                lambda one, ablation=ablation: masks(model, groups, one, config, {"ablation": ablation}),
            )
    if not args.only or "ssd" in args.only:
        row("ssd (dampening)", model, sets, lambda one: dampenings(model, one))
    if not args.only or "rotated" in args.only:
        rotate_heads_(model, groups)
        turned = [observe(model, groups, *pair, config) for pair in pairs]
        row("rms, rotated heads", model, turned, lambda one: masks(model, groups, one, config, {}))
        model, _ = models.load("smollm2")
    if args.iterative:
        print(f"\n{args.iterative} iterative steps of 1%, first set\n\n| score | step: forget drop at retain drop |\n|---|---|")
        for settings in ITERATIVE:
            iterate(model, groups, sets[0], config.with_settings(steps=args.iterative, **settings))


ITERATIVE: tuple[dict, ...] = (
    {"importance": "rms"},
    {"importance": "wanda"},
    {"importance": "rms", "candidates": 4.0},
    {"importance": "wanda", "candidates": 4.0},
    {"importance": "rms", "candidates": 4.0, "ablation": "mean"},
)
"""Settings of the iterative runs."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=12_288)
    parser.add_argument("--gradient-tokens", type=int, default=6_144)
    parser.add_argument("--evaluation-tokens", type=int, default=4_096)
    parser.add_argument("--seeds", type=int, default=3, help="sets of blocks")
    parser.add_argument("--only", action="append", help="name of a score (also: ssd, rotated); may be given several times")
    parser.add_argument("--iterative", type=int, default=4, help="steps of the iterative runs; 0 leaves them out")
    return parser.parse_args()


def read_sets(tokenizer, config: UnlearnConfig, seeds: int) -> Iterator[tuple[Pair, Pair]]:
    """Train and validation blocks of each set: every third block, say, from another beginning."""
    forget, retain = corpus("code", prefer="embedded"), corpus("general", prefer="embedded")
    wide = config.with_settings(tokens=seeds * config.tokens, evaluation_tokens=seeds * config.evaluation_tokens)
    whole = [read_pair(forget, retain, tokenizer, part, wide) for part in ("train", "validation")]
    for seed in range(seeds):
        train, validation = (Pair(*(every(blocks, seed, seeds) for blocks in (p.forget, p.retain))) for p in whole)
        yield train, validation


def every(blocks: Blocks, start: int, step: int) -> Blocks:
    """Every n-th block, from another beginning."""
    return blocks.rows(slice(start, None, step))


def observe(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], train: Pair, validation: Pair, config: UnlearnConfig
) -> Set:
    """Collect all that any score needs, once."""
    evidence = gather(model, groups, train, config.with_settings(importance="rms+wanda+taylor"), progress=False)
    return Set(train, validation, judge(model, validation, batch_size=config.batch_size, progress=False), evidence)


def masks(
    model: PreTrainedModel, groups: tuple[NeuronGroup, ...], one: Set, config: UnlearnConfig, settings: dict
) -> Iterator[Edit]:
    """Masks of growing size by one score."""
    config = config.with_settings(**settings)
    constants = ablation_constants(
        config.ablation, model, one.evidence.retain, one.train.retain, groups, batch_size=8, progress=False
    )
    for share in FRACTIONS:
        sized = config.with_settings(ffn_fraction=share, attention_fraction=share)
        mask = remove_next(NeuronMask.keep_all(groups, "smollm2"), one.evidence, groups, sized)
        yield lambda mask=mask: masked(model, mask, constants=constants)


def dampenings(model: PreTrainedModel, one: Set) -> Iterator[Edit]:
    """Factors of growing reach."""
    for alpha in ALPHAS:
        factors = {
            name: damping(fisher(one.evidence.of_forget(name)), fisher(one.evidence.of_retain(name)), alpha=alpha)
            for name in one.evidence.forget
        }
        yield lambda factors=factors: dampened(model, factors)


def row(name: str, model: PreTrainedModel, sets: list[Set], edits: Callable[[Set], Iterator[Edit]]) -> None:
    """Print what one score reaches, over all sets."""
    start = time.perf_counter()
    curves = [curve(model, one, edits(one)) for one in sets]
    columns = [[max(forget - retain for retain, forget in points) for points in curves]]
    columns += [[reached(points, budget) for points in curves] for budget in BUDGETS]
    print(f"| {name} | {' | '.join(map(spread, columns))} | {time.perf_counter() - start:.0f} |", flush=True)


def curve(model: PreTrainedModel, one: Set, edits: Iterator[Edit]) -> Curve:
    def judged() -> Iterator[Scores]:
        for edit in edits:
            with edit():
                yield judge(model, one.validation, batch_size=8, progress=False)

    return curve_of(judged(), one.base)


def iterate(model: PreTrainedModel, groups: tuple[NeuronGroup, ...], one: Set, config: UnlearnConfig) -> None:
    """Print the steps of one iterative run."""
    free = config.with_settings(controls=0, retain_budget=0.25)
    parts = (config.importance, "candidates" if config.candidates > 1 else "", f"ablation {config.ablation}")
    name = ", ".join(filter(None, parts))
    try:
        search = search_mask(model, groups, one.train, one.validation, config=free, progress=False)
    except BudgetError as error:
        print(f"| {name} | {error} |", flush=True)
        return
    search.journal.close()
    base = search.history.base
    steps = [f"{s.scores.forget_drop(base):.1%} at {s.scores.retain_drop(base):.1%}" for s in search.history.steps]
    best = 100 * search.history.max_selectivity()
    print(f"| {name} | {'; '.join(steps)}; largest difference {best:.1f} |", flush=True)


if __name__ == "__main__":
    main()
