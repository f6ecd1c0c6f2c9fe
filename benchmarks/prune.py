"""What a quarter of the FFN neurons is worth: SmolLM2-135M-Instruct, judged by `general`, every importance and ablation.

    python benchmarks/prune.py                       # 25% of the FFN neurons of every layer
    python benchmarks/prune.py --ratio 0.5 --only rms,wanda

Neurons are chosen on the train part; perplexities are of the held-out test part.
"""

import argparse
import logging
import os
import platform
import time
from datetime import date

import torch

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.corpora import corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.select import random_like
from hf_untangle.pruning.plan import PrunePlan, make_plan, read_blocks
from hf_untangle.statistics.histogram_modes import collect_modes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--gradient-tokens", type=int, default=8_192)
    parser.add_argument("--test-tokens", type=int, default=8_192)
    parser.add_argument("--seeds", type=int, default=3, help="random masks")
    parser.add_argument("--only", default=",".join(IMPORTANCE), help="importances, joined by commas")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    config = PruneConfig(
        ratio=args.ratio, tokens=args.tokens, gradient_tokens=args.gradient_tokens, evaluation_tokens=args.test_tokens
    )
    model, tokenizer = models.load("smollm2")
    groups, source = neuron_groups(model), corpus("general", prefer="embedded")
    train, test = (read_blocks(source, tokenizer, part, config) for part in ("train", "test"))

    def perplexity(mask: NeuronMask, constants: dict | None = None) -> str:
        with masked(model, mask, constants=constants):
            return f"{next_token_metrics(model, test, progress=False).perplexity:.1f}"

    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}")
    print(f"{train.tokens:,} tokens of general to choose by, {test.tokens:,} held-out tokens to judge by\n")
    print(f"original: perplexity {perplexity(NeuronMask.keep_all(groups, 'smollm2'))}\n")
    print("| importance | zero | mean | mode | all layers compete | seconds to choose |")
    print("|---|---|---|---|---|---|")
    modes, first = None, None
    for name in args.only.split(","):
        start = time.perf_counter()
        plan = make_plan(model, groups, train, config.with_settings(importance=name), progress=False)
        seconds = time.perf_counter() - start
        if modes is None:
            ffns = [group for group in groups if group.kind == "ffn"]
            modes, first = collect_modes(model, train, plan.statistics, groups=ffns, progress=False), plan
        ablations = [perplexity(plan.mask, ablation) for ablation in (None, mean_ablation(plan.statistics), modes)]
        print(f"| {name} | {' | '.join(ablations)} | {perplexity(all_compete(plan))} | {seconds:.0f} |", flush=True)
    assert first is not None
    for seed in range(args.seeds):
        print(f"| random mask, seed {seed} | {perplexity(random_like(first.mask, seed))} | | | | |", flush=True)


def all_compete(plan: PrunePlan) -> NeuronMask:
    """As many neurons, the least important of all layers, each relative to the mean of its own layer."""
    worth = torch.cat([values / values.abs().mean() for values in plan.importance.values()])
    gone = torch.zeros(len(worth), dtype=torch.bool)
    gone[worth.topk(plan.mask.removed(), largest=False).indices] = True
    parts = gone.split([len(values) for values in plan.importance.values()])
    return plan.mask.with_kept(dict(plan.mask) | {name: ~part for name, part in zip(plan.importance, parts, strict=True)})


if __name__ == "__main__":
    main()
