"""What repair gives back and what comes back with it: SmolLM2-135M-Instruct without `code`, trained on `general` alone.

    python benchmarks/repair.py                          # searches the mask of the largest difference first
    python benchmarks/repair.py --mask mask.safetensors  # or takes it from there, and keeps it there for the next time
    python benchmarks/repair.py --set steps=60           # other settings of the repair

Every repair runs in a process of its own, so that its memory can be told. The figures are of the test parts, which neither
the mask nor the settings were chosen by, and stand beside a random mask of equal size that is repaired in the same way.
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.repair import RepairConfig
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import Part, corpus
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.pruning.iterative import search_mask
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair, read_pair
from hf_untangle.recipes.read import parse_override
from hf_untangle.records.unlearning import RepairRecord, Scores
from hf_untangle.repairs.repair import repair_measured

RUNS = {
    "lora": {"method": "lora"},
    "full": {"method": "full"},
    "lora, distilled": {"method": "lora", "distill": 0.5},
    "random mask, lora": {"method": "lora"},
}
"""The repairs and what sets each apart."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", help="a file with the mask, written when it is not there")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    parser.add_argument("--runs", default=",".join(RUNS).replace(", ", " "), help="which of: " + "; ".join(RUNS))
    parser.add_argument("--part", default="test", choices=["validation", "test"], help="what is measured")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens of each corpus that are measured")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        run_one(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(args.mask or f"{folder}/mask.safetensors")
        if not mask.exists():
            largest_difference().save(mask)
        print_header(NeuronMask.load(mask))
        passed = ["--part", args.part, "--tokens", str(args.tokens), *(f"--set={one}" for one in args.settings)]
        passed += ["--mask", str(mask), "--base", f"{folder}/base.json"]
        for name in args.runs.split(","):
            subprocess.run([sys.executable, __file__, "--only", name, *passed], check=True)


def largest_difference() -> NeuronMask:
    """The mask of the largest difference on the validation parts, as `benchmarks/selectivity.py` finds it."""
    model, tokenizer = models.load("smollm2")
    config = UnlearnConfig.resolve("default", controls=0, retain_budget=0.25, bisections=0)
    train, validation = (read_pair(*corpora(), tokenizer, part, config) for part in ("train", "validation"))
    search = search_mask(model, neuron_groups(model), train, validation, config=config)
    search.journal.close()
    base = search.history.base
    best = max(search.history.steps, key=lambda step: step.scores.selectivity(base))
    return search.masks[best.number - 1]


def corpora():
    return corpus("code", prefer="embedded"), corpus("general", prefer="embedded")


def run_one(args: argparse.Namespace) -> None:
    """Prune, repair, and print a row for the model before and after."""
    (name,) = (one for one in RUNS if one.replace(", ", " ") == args.only)
    model, tokenizer = models.load("smollm2")
    measured = read(tokenizer, args.part, args.tokens)
    base = original_scores(model, measured, Path(args.base))
    mask = NeuronMask.load(args.mask)
    mask = random_like(mask, seed=0) if name.startswith("random") else mask
    remove_(model, mask, neuron_groups(model))
    config = RepairConfig().with_settings(**dict(map(parse_override, args.settings)) | RUNS[name])
    record = repair_measured(model, mask, measured, corpora()[1], config, tokenizer=tokenizer, original="smollm2")
    print_rows(name, record, base)


def original_scores(model: PreTrainedModel, measured: Pair, file: Path) -> Scores:
    """Measure the original in the first run, and let the others read what it found."""
    if not file.exists():
        file.write_text(judge(model, measured, batch_size=4, progress=False).model_dump_json())
    return Scores.model_validate_json(file.read_text())


def read(tokenizer: PreTrainedTokenizerBase, part: Part, tokens: int) -> Pair:
    return Pair(*(token_blocks(one, tokenizer, tokens=tokens, part=part) for one in corpora()))


def print_header(mask: NeuronMask) -> None:
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"\n{date.today()}, {platform.machine()}, {threads}, bfloat16; the mask {mask.describe()}\n")
    print("| repair | steps | code top-1 | general top-1 | code drop | general drop | perplexity of general | time | memory |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)


def print_rows(name: str, record: RepairRecord, base: Scores) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(row(f"{name}: before", 0, record.before, base, "", ""))
    print(
        row(name, int(record.settings["steps"]), record.after, base, f"{record.seconds:.0f} s", f"{memory:.1f} GiB"), flush=True
    )


def row(name: str, steps: int, scores: Scores, base: Scores, time: str, memory: str) -> str:
    return (
        f"| {name} | {steps} | {scores.forget.top1:.4f} | {scores.retain.top1:.4f} | {scores.forget_drop(base):.1%} "
        f"| {scores.retain_drop(base):.1%} | {scores.retain.perplexity:.1f} | {time} | {memory} |"
    )


if __name__ == "__main__":
    main()
