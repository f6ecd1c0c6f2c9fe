"""What bits and neurons of low and high entropy are worth, in and out of distribution (arXiv:2305.12238).

    python benchmarks/entropy.py images            # digits through a channel of 32 and of 128 bits, three models each
    python benchmarks/entropy.py texts             # prose through a channel of 32 bits
    python benchmarks/entropy.py neurons           # neurons of SmolLM2-135M-Instruct
    python benchmarks/entropy.py cost              # what entropy adds to collecting statistics

Changes are of accuracy, as mean and standard deviation over models (`images`, `texts`) or over parts of the prose that entropy
is measured on (`neurons`).
"""

import argparse
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import product

import torch

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.entropy.neuron_masks import measure_neurons
from hf_untangle.entropy.neuron_record import NeuronEntropyConfig, NeuronRecord, spread
from hf_untangle.importance.entropy import always_off, always_on, entropy
from hf_untangle.papers.contrast.bit_masks import ORDERS
from hf_untangle.papers.contrast.contrast_config import ContrastExperimentConfig
from hf_untangle.papers.contrast.contrast_record import ContrastRecord
from hf_untangle.papers.contrast.encoders import ItemSets
from hf_untangle.papers.contrast.experiment import measure_contrast, train_models
from hf_untangle.papers.contrast.image_items import digit_items
from hf_untangle.papers.contrast.text_items import manual, text_items
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.head_entropy import collect_head_entropy
from hf_untangle.statistics.thresholded import collect_bits

SHARE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--bits", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048, help="of every text that neurons are tested on")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    start = time.perf_counter()
    PARTS[args.part](args)
    print(f"\n{time.perf_counter() - start:.0f} s")


def images(args: argparse.Namespace) -> None:
    for bits in args.bits:
        contrast(digit_items(), bits, args)


def language(args: argparse.Namespace) -> None:
    contrast(text_items(), args.bits[0], args)


def contrast(data: ItemSets, bits: int, args: argparse.Namespace) -> None:
    """Train once, then measure every ablation and both places to measure entropy on the same models."""
    settings = ContrastExperimentConfig(bits=bits, steps=args.steps, seeds=args.seeds)
    trained = train_models(data, settings, progress=True)
    losses = ", ".join(f"{one.of_chance:.2f}" for one in trained.values())
    print(f"\n{data.source}, {bits} bits, {args.steps} steps; training loss as a share of a guesser's: {losses}")
    print(f"\n| set (accuracy) | ablation, entropy on | {' | '.join(ORDERS)} |\n|---|---|{'---|' * len(ORDERS)}")
    worse = cells = 0
    records = {}
    for ablation, entropy_on in product(("mean", "half", "zero"), ("eval", "train")):
        changed = settings.model_copy(update={"ablation": ablation, "entropy_on": entropy_on})
        records[ablation, entropy_on] = measure_contrast(trained, data, changed)
    for name in data.sets:
        for (ablation, entropy_on), record in records.items():
            base, deviation = spread(record.base(name))
            print(f"| {name} ({base:.3f} ± {deviation:.3f}) | {ablation}, {entropy_on} | {changes(record, name, SHARE)} |")
            if entropy_on == "eval":
                cells += 1
                worse += spread(record.changes(name, "top", SHARE))[0] < spread(record.changes(name, "bottom", SHARE))[0]
    print(f"\ntop is worse than bottom in {worse} of {cells} cells with entropy on the evaluated set")
    sweep(records["mean", "eval"])


def sweep(record: ContrastRecord) -> None:
    print("\nmean ablation, entropy on the evaluated set:")
    print(f"\n| set | share | {' | '.join(ORDERS)} |\n|---|---|{'---|' * len(ORDERS)}")
    for name, share in product(record.sets, record.settings.shares):
        print(f"| {name} | {share:.0%} | {changes(record, name, share)} |")


def changes(record: ContrastRecord | NeuronRecord, name: str, share: float) -> str:
    return " | ".join("{:+.3f} ± {:.3f}".format(*spread(record.changes(name, order, share))) for order in ORDERS)


def neurons(args: argparse.Namespace) -> None:
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    for kind, ablation in (("ffn", "mean"), ("ffn", "zero"), ("attention", "mean")):
        settings = NeuronEntropyConfig(
            seeds=args.seeds, kinds=(kind,), ablation=ablation, shares=(0.02, 0.1), evaluation_tokens=args.tokens
        )
        prose = token_blocks("general", tokenizer, tokens=settings.tokens * settings.seeds)
        corpora = {"general": "general", "code": "code", "manual": manual()}
        tests = {
            name: token_blocks(corpus, tokenizer, tokens=args.tokens, part="test", block_size=settings.block_size)
            for name, corpus in corpora.items()
        }
        record = measure_neurons(model, prose, tests, settings)
        print(f"\n{kind} neurons, {ablation} ablation:")
        print(f"\n| text (top-1) | share | {' | '.join(ORDERS)} |\n|---|---|{'---|' * len(ORDERS)}")
        for name, share in product(record.sets, settings.shares):
            print(f"| {name} ({record.base(name)[0]:.3f}) | {share:.0%} | {changes(record, name, share)} |", flush=True)


def cost(args: argparse.Namespace) -> None:
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    groups = neuron_groups(model)
    blocks = token_blocks("general", tokenizer, tokens=args.tokens)

    def collected() -> object:
        return collect(model, blocks, groups=groups, progress=False)

    def with_entropy() -> object:
        found = collect(model, blocks, groups=groups, progress=False)
        return [(entropy(one), always_on(one), always_off(one)) for one in found.values()]

    runs: dict[str, Callable[[], object]] = {
        "collect": collected,
        "collect, then entropy": with_entropy,
        "bits above the running mean": lambda: collect_bits(model, blocks, groups=groups, progress=False),
        "entropy of attention heads": lambda: collect_head_entropy(model, blocks, groups=groups, progress=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for one_round in range(args.seeds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if one_round:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    print(
        f"\n{args.dtype}, {args.tokens} tokens, median of {args.seeds} rounds (min to max)\n\n| what | / collect |\n|---|---|"
    )
    for name, taken in seconds.items():
        ratios = [mine / plain for mine, plain in zip(taken, seconds["collect"], strict=True)]
        print(f"| {name} | {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |")


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "images": images,
    "texts": language,
    "neurons": neurons,
    "cost": cost,
}


if __name__ == "__main__":
    main()
