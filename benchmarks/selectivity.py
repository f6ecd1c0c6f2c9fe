"""How much of a capability goes before the rest does: SmolLM2-135M-Instruct, forget `code`, retain `general`.

    python benchmarks/selectivity.py                                 # the default settings
    python benchmarks/selectivity.py --set importance=abs            # any other
    python benchmarks/selectivity.py --also wikitext.txt             # prose of another kind, to see that it stays too
    python benchmarks/selectivity.py --sets 3 --set tokens=20480     # three runs, each on train blocks of its own

Two masks are chosen on the validation parts: the one of the largest difference, and what a run with a retain budget of 2%
ends with. The figures are of the held-out test parts, and stand beside
random masks that remove as many neurons of every group.
"""

import argparse
import logging
import os
import platform
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from frontier import BUDGETS, Curve, curve_of, reached, spread
from transformers import PreTrainedModel

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Part, corpus
from hf_untangle.evaluation.next_token import next_token_metrics, relative_drop
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.pruning.iterative import search_mask
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair, read_pair
from hf_untangle.recipes.read import parse_override
from hf_untangle.records.unlearning import Scores, Step

RUNS = {"largest difference": {"retain_budget": 0.25, "bisections": 0}, "retain budget of 2%": {"retain_budget": 0.02}}
"""The masks that are chosen, and what sets each run apart: the first continues past its best step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--test-tokens", type=int, default=16_384)
    parser.add_argument("--seeds", type=int, default=3, help="random masks beside each, of other seeds in every run")
    parser.add_argument("--sets", type=int, default=1, help="runs, each on train blocks of its own")
    parser.add_argument("--save", help="folder for the masks, which benchmarks/repair.py takes by --mask")
    parser.add_argument("--also", help="a file with prose of another kind")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    config = UnlearnConfig.resolve(args.preset, **{"controls": 0, **dict(map(parse_override, args.settings))})
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    groups = neuron_groups(model)
    forget, retain = corpus("code", prefer="embedded"), corpus("general", prefer="embedded")

    def read(part: Part, tokens: int) -> Pair:
        return read_pair(forget, retain, tokenizer, part, config.with_settings(tokens=tokens, evaluation_tokens=tokens))

    train = read("train", args.sets * config.tokens)
    validation, test = read("validation", config.evaluation_tokens), read("test", args.test_tokens)
    base = judge(model, test, batch_size=config.batch_size, progress=True)
    also = token_blocks(args.also, tokenizer, tokens=args.test_tokens, part="test") if args.also else None
    found: dict[str, list[Scores]] = {}
    curves: list[Curve] = []
    for number in range(args.sets):
        start = time.perf_counter()
        searches = {
            name: search_mask(
                model, groups, every(train, number, args.sets), validation, config=config.with_settings(**settings)
            )
            for name, settings in RUNS.items()
        }
        print_header(config, time.perf_counter() - start)
        for name, search in searches.items():
            search.journal.close()
            steps = search.history.steps
            print_steps(f"{name}, validation parts", steps, [step.scores for step in steps], search.history.base)
        longest = searches["largest difference"]
        on_test = [score(model, mask, test, config) for mask in longest.masks]
        print_steps("the longer of both, test parts", longest.history.steps, on_test, base)
        curves.append(curve_of(on_test, base))
        print_test_header(test, base)
        seeds = range(number * args.seeds, (number + 1) * args.seeds)
        for name, search in searches.items():
            mask = search.mask
            scores = measure(model, f"{name} (step {search.history.chosen})", mask, test, base, also, seeds, config)
            found.setdefault(name, []).append(scores)
            if args.save:
                mask.save(Path(args.save) / f"{name.replace(' ', '-').rstrip('%')}-{number}.safetensors")
    if args.sets > 1:
        print_summary(found, curves, base)


def every(pair: Pair, start: int, step: int) -> Pair:
    """Every n-th block of both corpora, from another beginning."""
    return Pair(*(blocks.rows(slice(start, None, step)) for blocks in (pair.forget, pair.retain)))


def print_summary(found: dict[str, list[Scores]], curves: list[Curve], base: Scores) -> None:
    """Print the mean over sets, with the lowest and the highest."""
    print("\ntest parts\n\n| all sets | sets | forget drop | retain drop | difference |\n|---|---|---|---|---|")
    for name, several in found.items():
        columns = zip(*((one.forget_drop(base), one.retain_drop(base), one.selectivity(base)) for one in several), strict=True)
        print(f"| {name} | {len(several)} | {' | '.join(map(spread, columns))} |")
    for budget in BUDGETS:
        forgotten = spread(reached(points, budget) for points in curves)
        print(f"| on the curve of steps | {len(curves)} | {forgotten} | {100 * budget:g} | |")


def score(model: PreTrainedModel, mask: NeuronMask, test: Pair, config: UnlearnConfig) -> Scores:
    with masked(model, mask):
        return judge(model, test, batch_size=config.batch_size, progress=True)


def measure(
    model: PreTrainedModel,
    name: str,
    mask: NeuronMask,
    test: Pair,
    base: Scores,
    also: TokenBlocks | None,
    seeds: range,
    config: UnlearnConfig,
) -> Scores:
    """Print a mask's scores on the test parts, with random masks of its size below it."""
    found = score(model, mask, test, config)
    print(line(name, mask, found, base), flush=True)
    for seed in seeds:
        scores = score(model, random_like(mask, seed), test, config)
        print(line(f"random, as many (seed {seed})", mask, scores, base), flush=True)
    if also is not None:
        before = next_token_metrics(model, also).top1
        with masked(model, mask):
            after = next_token_metrics(model, also).top1
        print(f"\n{also.corpus.source}: top-1 {before:.4f} to {after:.4f}, relative drop {relative_drop(before, after):.1%}\n")
    return found


def line(name: str, mask: NeuronMask | None, scores: Scores, base: Scores) -> str:
    removed = f"{mask.removed('ffn')}, {mask.removed('attention')}" if mask else "0, 0"
    return (
        f"| {name} | {removed} | {scores.forget.top1:.4f} | {scores.retain.top1:.4f} | {scores.forget_drop(base):.1%} "
        f"| {scores.retain_drop(base):.1%} | {100 * scores.selectivity(base):.1f} |"
    )


def print_header(config: UnlearnConfig, seconds: float) -> None:
    default = UnlearnConfig().model_dump()
    changed = {name: value for name, value in config.model_dump().items() if value != default[name]}
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {seconds:.0f} s")
    print(f"settings that differ from the default: {changed}")


def print_test_header(test: Pair, base: Scores) -> None:
    print(f"\ntest parts: {test.forget.tokens:,} tokens of code, {test.retain.tokens:,} of general\n")
    print("| mask | removed (FFN, attention) | code top-1 | general top-1 | forget drop | retain drop | difference |")
    print("|---|---|---|---|---|---|---|")
    print(line("none", None, base, base))


def print_steps(name: str, steps: Sequence[Step], several: Sequence[Scores], base: Scores) -> None:
    print(f"\n{name}:\n\n| step | forget drop | retain drop | difference |\n|---|---|---|---|")
    for step, scores in zip(steps, several, strict=True):
        print(
            f"| {step.number - 1 + step.share:g} | {scores.forget_drop(base):.1%} | {scores.retain_drop(base):.1%} "
            f"| {100 * scores.selectivity(base):.1f} |"
        )


if __name__ == "__main__":
    main()
