"""Ticket search measured: against other ways to as many weights, as a batched program, and over the neurons of a real model.

python benchmarks/nets.py digits        # tables of rivals on handwritten digits, an MLP and a convolutional network
python benchmarks/nets.py speed         # individuals per second, batched against one by one
python benchmarks/nets.py neurons       # SmolLM2: an evolved mask against scores at equal kept share
"""

import argparse
import statistics as summary
import time
from collections.abc import Callable

import torch

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import token_blocks
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.criteria import root_mean_square
from hf_untangle.importance.observations import Observations
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.nets import search, search_neurons
from hf_untangle.nets.functional import Program, minibatches
from hf_untangle.nets.genes import genes_of
from hf_untangle.nets.population import first_population
from hf_untangle.papers import compare
from hf_untangle.papers.tickets.digits import NetworkName, digits_task
from hf_untangle.statistics.collect import collect

SEEDS = range(3)
RUNS: list[tuple[NetworkName, int, str, float]] = [
    ("mlp", 64, "baldwin", 1.0),
    ("mlp", 64, "baldwin", 3.0),
    ("mlp", 64, "lamarck", 1.0),
    ("mlp", 64, "lamarck", 3.0),
    ("convolutional", 16, "baldwin", 1.0),
    ("convolutional", 16, "lamarck", 1.0),
]
"""NetworkName, width, inheritance, and what density costs."""


def digits() -> None:
    for shape, width, inheritance, price in RUNS:
        network, train, validation, test = digits_task(shape, width)
        rows: dict[str, list[dict[int, float]]] = {}
        costs, densities, seconds = {}, [], []
        for seed in SEEDS:
            ticket = search(
                network, train, validation, inheritance=inheritance, sparsity_weight=price, seed=seed, progress=False
            )
            densities.append(ticket.density)
            seconds.append(ticket.seconds)
            for one in compare(network, ticket, train, test, seed=seed):
                rows.setdefault(one.name, []).append(one.accuracies)
                costs[one.name] = one.search_steps
        print(f"\n{shape} {width}, {inheritance}, price {price:g}: density {spread(densities, '.1%')}, ", end="")
        print(f"search {summary.mean(seconds):.0f} s\n")
        print("| | test accuracy after 60 steps | after 1,500 steps | gradient steps to find it |\n|---|---|---|---|")
        for name, found in rows.items():
            scores = [spread([one[steps] for one in found], ".3f") for steps in (60, 1500)]
            print(f"| {name} | {scores[0]} | {scores[1]} | {costs[name]:,} |", flush=True)


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation."""
    return f"{summary.mean(values):{form}} ± {summary.stdev(values):{form}}"


def speed(steps: int = 15) -> None:
    print("\n| network | individuals | batched, individuals per second | one by one | ratio |\n|---|---|---|---|---|")
    for shape, width in (("mlp", 64), ("convolutional", 16)):
        network, train, _, _ = digits_task(shape, width)
        program = Program(network, genes_of(network))
        for size in (8, 32, 128):
            population = first_population(network, program.genes, size, density=0.5, seed=0)

            def learn(rows: slice, population=population, program=program, train=train) -> None:
                few, draws = population[rows], torch.Generator().manual_seed(0)
                program.learn(few.parameters, few.kept, minibatches(train, steps=steps, size=64, generator=draws), rate=0.1)

            together = rate(lambda size=size, learn=learn: learn(slice(0, size)), size)
            alone = rate(lambda size=size, learn=learn: [learn(slice(row, row + 1)) for row in range(size)], size)
            print(f"| {shape} {width} | {size} | {together:.0f} | {alone:.0f} | {together / alone:.1f} |", flush=True)


def rate(work: Callable[[], object], count: int, rounds: int = 3) -> float:
    """Individuals a second, the median of a few rounds after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return count / summary.median(times)


def neurons(tokens: int = 16_384) -> None:
    model, tokenizer = models.load("smollm2")
    groups = neuron_groups(model)
    train = token_blocks("general", tokenizer, tokens=tokens, block_size=128)
    test = token_blocks("general", tokenizer, tokens=8_192, part="test")
    statistics = collect(model, train, groups=groups, progress=False)
    base = next_token_metrics(model, test, progress=False)
    print(f"\nunmasked: top-1 {base.top1:.4f}, loss {base.loss:.3f}")
    print("\n| start | mask | neurons removed | top-1 | loss | search |\n|---|---|---|---|---|---|")
    for start in ("random", "scores"):
        for seed in SEEDS:
            mask = least(groups, statistics, 0.05) if start == "scores" else None
            settings = {"population": 12, "generations": 40, "density": 0.95, "sparsity_weight": 5.0, "seed": seed}
            ticket = search_neurons(model, train, start=mask, progress=False, **settings)
            share = ticket.mask.removed() / ticket.mask.neurons()
            rivals = {"evolved": ticket.mask, "random": random_like(ticket.mask, seed)}
            rivals["lowest rms, as many in each group"] = least_like(ticket.mask, statistics)
            for name, rival in rivals.items():
                with masked(model, rival):
                    score = next_token_metrics(model, test, progress=False)
                cost = f"{ticket.forwards:,} blocks, {ticket.seconds:.0f} s" if name == "evolved" else ""
                print(f"| {start} | {name} | {share:.1%} | {score.top1:.4f} | {score.loss:.3f} | {cost} |", flush=True)


def least(groups, statistics, share: float) -> NeuronMask:
    """Remove the same share of every group, those of the lowest root mean square."""
    everything = NeuronMask.keep_all(groups, "SmolLM2-135M-Instruct")
    counts = {name: int(share * len(kept)) for name, kept in everything.items()}
    return lowest(everything, statistics, counts)


def least_like(mask: NeuronMask, statistics) -> NeuronMask:
    """Remove as many of every group as a mask does, those of the lowest root mean square."""
    return lowest(mask, statistics, {name: int((~kept).sum()) for name, kept in mask.items()})


def lowest(mask: NeuronMask, statistics, counts: dict[str, int]) -> NeuronMask:
    kept = {}
    for name, count in counts.items():
        kept[name] = torch.ones(len(mask[name]), dtype=torch.bool)
        kept[name][root_mean_square(Observations(statistics[name])).topk(count, largest=False).indices] = False
    return mask.with_kept(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["digits", "speed", "neurons"], nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.part:
        {"digits": digits, "speed": speed, "neurons": neurons}[part]()
