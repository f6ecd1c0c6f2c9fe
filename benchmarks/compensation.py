"""What compensation gives back: SmolLM2-135M-Instruct without a quarter or half of its FFN neurons, with and without a refit.

    python benchmarks/compensation.py --prose FILE              # both ratios, calibrated on `general` and on a mix with FILE
    python benchmarks/compensation.py --ratios 0.25 --mixes ""  # one ratio, on `general` alone, measured on `general` alone

Neurons are chosen and weights are refitted on the train part; figures are perplexities of the held-out test parts, relative to
those of the original model. FILE is a text of another kind, such as the validation part of WikiText-2, one paragraph a line.
"""

import argparse
import logging
import os
import platform
import time
from collections.abc import Mapping
from datetime import date

import torch
from transformers import PreTrainedModel

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.compensation import Refit, least_squares, refitted
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.pruning.plan import PrunePlan, read_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", help="a text file of another kind of prose")
    parser.add_argument("--ratios", default="0.25,0.5", help="shares of FFN neurons, joined by commas")
    parser.add_argument("--mixes", default="general,mixed", help="what to calibrate on, joined by commas")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens to choose neurons by, and to refit on")
    parser.add_argument("--test-tokens", type=int, default=8_192, help="of each text")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    config = PruneConfig(tokens=args.tokens, evaluation_tokens=args.test_tokens)
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    texts = {"general": corpus("general", prefer="embedded")} | ({"prose": corpus(args.prose)} if args.prose else {})
    test = {name: read_blocks(one, tokenizer, "test", config) for name, one in texts.items()}
    dense = perplexities(model, test)
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}")
    print(f"{args.tokens:,} tokens to calibrate on, held-out tokens: { {name: one.tokens for name, one in test.items()} }")
    print(f"original: perplexity { {name: round(one, 1) for name, one in dense.items()} }\n")
    print(f"| ratio | calibrated on | compensation | {' | '.join(test)} | ridges | seconds |")
    print(f"|---|---|---|{'---|' * len(test)}---|---|")
    for mix in filter(None, (args.mixes or "general").split(",")):
        source = texts["general"] if mix == "general" else corpus(list(texts.values()))
        for ratio in map(float, args.ratios.split(",")):
            chosen = untangle.plan(model, source, tokenizer=tokenizer, config=config, ratio=ratio, progress=False)
            compared(model, chosen, source, tokenizer, test, dense, mix)


def compared(
    model: PreTrainedModel,
    chosen: PrunePlan,
    source: Corpus,
    tokenizer,
    test: Mapping[str, TokenBlocks],
    dense: Mapping[str, float],
    mix: str,
) -> None:
    """Print a row for the mask alone, and one for the mask with its refit."""

    def row(name: str, refit: Refit | None) -> None:
        with refitted(model, refit), masked(model, chosen.mask):
            found = perplexities(model, test)
        cells = [f"{found[text] / dense[text]:.3f}" for text in test]
        ridges = list(refit.ridges.values()) if refit else []
        said = ", ".join(f"{one} x {ridges.count(one)}" for one in sorted(set(ridges), key=str))
        seconds = f"{time.perf_counter() - start:.0f}" if refit else ""
        print(f"| {chosen.config.ratio:g} | {mix} | {name} | {' | '.join(cells)} | {said} | {seconds} |", flush=True)

    row("none", None)
    start = time.perf_counter()
    blocks = read_blocks(source, tokenizer, "train", chosen.config)
    row("least-squares", least_squares(model, chosen.mask, chosen.groups, blocks, progress=False))


def perplexities(model: PreTrainedModel, test: Mapping[str, TokenBlocks]) -> dict[str, float]:
    """The perplexity of each text."""
    return {name: next_token_metrics(model, blocks, progress=False).perplexity for name, blocks in test.items()}


if __name__ == "__main__":
    main()
