"""The most memory that unlearning holds, beside that of a bare pass forward with batches of eight blocks.

    python benchmarks/memory.py                          # every run in a process of its own
    python benchmarks/memory.py --runs prune,npo@lora --dtype bfloat16

SmolLM2-135M-Instruct, forget `code`, retain `general`, two steps. The memory is the largest resident size of the process,
Python and torch included; the last column leaves out what the process held once the model was loaded and its text was read,
which is what the work itself needs. Budgets are off, so that no step ends a run.
"""

import argparse
import math
import multiprocessing
import os
import resource
from collections.abc import Mapping
from datetime import date
from typing import Any

import psutil
import torch

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.data.batches import token_blocks

FORWARD = "forward"
TEXT: Mapping[str, Any] = {"tokens": 4096, "evaluation_tokens": 2048, "batch_size": 8}
FREE: Mapping[str, Any] = {"retain_budget": 1.0, "perplexity_budget": math.inf, "disruption_budget": 1e9, "controls": 1}
TRAINS: Mapping[str, Any] = {"steps": 2, "evaluate_every": 1, "search": (1.0,)}
PRUNES: Mapping[str, Any] = {"method": "prune", "steps": 2, "gradient_tokens": 2048}
RUNS: dict[str, Mapping[str, Any]] = {
    FORWARD: {},
    "prune": PRUNES,
    "prune without gradients": {**PRUNES, "candidates": 1.0},
    "auto": {"method": "auto", "steps": 2, "evaluate_every": 1},
    "graddiff": {**TRAINS, "method": "graddiff"},
    "npo": {**TRAINS, "method": "npo"},
    "npo@lora": {**TRAINS, "method": "npo", "writes": "lora"},
}
"""Settings of every run."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default=",".join(RUNS), help="which of: " + ", ".join(RUNS))
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    args = parser.parse_args()
    print(f"{args.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}\n")
    print("| run | most memory | over forward | above the loaded model, over forward |\n|---|---|---|---|")
    names = [FORWARD, *(name for name in args.runs.split(",") if name != FORWARD)]
    found = {}
    for name in names:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(memory_of, (name, args.dtype))
        (peak, above), (bare, bare_above) = found[name], found[FORWARD]
        print(f"| {name} | {peak / 2**30:.2f} GiB | {peak / bare:.2f} | {above / bare_above:.2f} |", flush=True)


def memory_of(name: str, dtype: models.Dtype) -> tuple[int, int]:
    """The largest resident size of this process, which does one thing, and how much of it is above the loaded model."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    model, tokenizer = models.load("smollm2", dtype=dtype)
    blocks = token_blocks("general", tokenizer, tokens=TEXT["tokens"])
    loaded = psutil.Process().memory_info().rss
    if name == FORWARD:
        untangle.evaluation.next_token_metrics(model, blocks, batch_size=TEXT["batch_size"], progress=False)
    else:
        how = {"tokenizer": tokenizer, "prompts": [], "progress": False}
        untangle.unlearn(model, "code", "general", **how, **TEXT, **FREE, **RUNS[name])
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak - loaded


if __name__ == "__main__":
    main()
