"""What compensation gives back: SmolLM2-135M-Instruct without a quarter or half of its FFN neurons, with and without a refit.

    python benchmarks/compensation.py --prose FILE              # both ratios, calibrated on `general` and on a mix with FILE
    python benchmarks/compensation.py --ratios 0.25 --mixes ""  # one ratio, on `general` alone, measured on `general` alone
    python benchmarks/compensation.py --importances wanda,obs --compensations least-squares,block --distill-steps 50

Neurons are chosen and weights are refitted on the train part; figures are perplexities of the held-out test parts, relative to
those of the original model. FILE is a text of another kind, such as the validation part of WikiText-2, one paragraph a line.
With `--distill-steps`, the last of the compensations is followed by a training of all weights on what the original predicts.
"""

import argparse
import logging
import os
import platform
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from itertools import product

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.bench.peak_memory import Peak, peak_memory
from hf_untangle.compensation import Compensation, Refit, refitted
from hf_untangle.compensation.choose import refit_by
from hf_untangle.compensation.reconstruct import STEPS
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.plan import PrunePlan, read_blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", help="a text file of another kind of prose")
    parser.add_argument("--ratios", default="0.25,0.5", help="shares of FFN neurons, joined by commas")
    parser.add_argument("--mixes", default="general,mixed", help="what to calibrate on, joined by commas")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens to choose neurons by, and to refit on")
    parser.add_argument("--test-tokens", type=int, default=8_192, help="of each text")
    parser.add_argument("--part", default="test", help="what is measured on: test, or validation to choose settings by")
    parser.add_argument("--allocation", default="uniform", help="how layers share what goes")
    parser.add_argument("--importances", default="wanda", help="what neurons are chosen by, joined by commas")
    parser.add_argument("--compensations", default="least-squares", help="least-squares, block or both, joined by a comma")
    parser.add_argument("--block-steps", type=int, default=STEPS, help="steps of training per block")
    parser.add_argument("--distill-steps", type=int, default=0, help="steps of distillation after the last compensation")
    parser.add_argument(
        "--distill-rate", type=float, default=2e-4, help="its largest learning rate, as all weights are trained"
    )
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    config = PruneConfig(tokens=args.tokens, evaluation_tokens=args.test_tokens, block_steps=args.block_steps)
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    texts = {"general": corpus("general", prefer="embedded")} | ({"prose": corpus(args.prose)} if args.prose else {})
    test = {name: read_blocks(one, tokenizer, args.part, config) for name, one in texts.items()}
    with peak_memory() as peak:
        dense = perplexities(model, test)
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}")
    print(f"{args.tokens:,} tokens to calibrate on, held-out tokens: { {name: one.tokens for name, one in test.items()} }")
    print(f"original: perplexity { {name: round(one, 1) for name, one in dense.items()} }, peak {gigabytes(peak)} GB\n")
    print(f"| ratio | calibrated on | importance | compensation | {' | '.join(test)} | what a cell gave | seconds | peak GB |")
    print(f"|---|---|---|---|{'---|' * len(test)}---|---|---|")
    for mix in filter(None, (args.mixes or "general").split(",")):
        source = texts["general"] if mix == "general" else corpus(list(texts.values()))
        for ratio, importance in product(map(float, args.ratios.split(",")), args.importances.split(",")):
            settings = {"ratio": ratio, "importance": importance, "allocation": args.allocation}
            chosen = untangle.plan(model, source, tokenizer=tokenizer, config=config, progress=False, **settings)
            rows = Rows(model, tokenizer, test, dense, chosen, mix)
            rows.show("none", None)
            refits = [rows.refitted(how) for how in args.compensations.split(",")]
            if args.distill_steps:
                rows.distilled(refits[-1], source, args.distill_steps, args.distill_rate)


@dataclass(frozen=True)
class Rows:
    """The rows of one mask."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    test: Mapping[str, TokenBlocks]
    dense: Mapping[str, float]
    chosen: PrunePlan
    mix: str

    def show(self, name: str, refit: Refit | None, *said: str) -> None:
        """Print what the mask costs with a refit, or without."""
        with refitted(self.model, refit), masked(self.model, self.chosen.mask):
            self.line(name, perplexities(self.model, self.test), *said)

    def line(self, name: str, found: Mapping[str, float], said: str = "", seconds: str = "", peak: str = "") -> None:
        """Print one row."""
        config, cells = self.chosen.config, [f"{found[text] / self.dense[text]:.3f}" for text in self.test]
        columns = [f"{config.ratio:g}", self.mix, config.importance, name, *cells, said, seconds, peak]
        print(f"| {' | '.join(columns)} |", flush=True)

    def refitted(self, how: Compensation) -> Refit:
        """Print the row of one compensation."""
        start, config = time.perf_counter(), self.chosen.config
        blocks = read_blocks(self.chosen.corpus, self.tokenizer, "train", config)
        options = {"steps": config.block_steps, "progress": False}
        with peak_memory() as peak:
            refit = refit_by(how, self.model, self.chosen.mask, self.chosen.groups, blocks, **options)
        assert refit is not None
        ridges, errors = list(refit.ridges.values()), refit.block_errors.values()
        said = ", ".join(f"ridge {one} x {ridges.count(one)}" for one in sorted(set(ridges), key=str))
        if errors:
            said = f"error of blocks {min(errors):.2f} to {max(errors):.2f} of the refit's"
        self.show(how, refit, said, f"{time.perf_counter() - start:.0f}", gigabytes(peak))
        return refit

    def distilled(self, refit: Refit, source: Corpus, steps: int, rate: float) -> None:
        """Print the row of a distillation after a refit."""
        pruned = deepcopy(self.model)
        remove_(pruned, self.chosen.mask, self.chosen.groups, weights=refit.weights)
        how = {"tokenizer": self.tokenizer, "original": self.model, "method": "full", "steps": steps, "learning_rate": rate}
        spent = time.process_time()
        record = untangle.repair(pruned, self.chosen.mask, source, distill=True, evaluation_tokens=256, progress=False, **how)
        spent = time.process_time() - spent
        said = f"{steps} steps at {rate:g}, {record.tokens:,} tokens, {spent:.0f} seconds of one core"
        self.line("and distillation", perplexities(pruned, self.test), said, f"{record.seconds:.0f}")


def gigabytes(peak: Peak) -> str:
    """What a peak of memory is in a table."""
    return "" if peak.bytes is None else f"{peak.bytes / 1e9:.2f}"


def perplexities(model: PreTrainedModel, test: Mapping[str, TokenBlocks]) -> dict[str, float]:
    """The perplexity of each text."""
    return {name: next_token_metrics(model, blocks, progress=False).perplexity for name, blocks in test.items()}


if __name__ == "__main__":
    main()
