"""What collecting statistics costs, against the bare forward pass on the same batches, in one run.

    python benchmarks/collection.py

Every round times the base model alone, collection, and the full call with the language-model head, one after another, so
that they share whatever else the machine does; the ratio of each round is taken first, and the median of rounds after.
Memory is the peak of a process of its own.
"""

import argparse
import gc
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Callable
from datetime import date

import torch

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.statistics.collect import collect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"\n{date.today()}, {platform.machine()} {device}, {hardware}, torch {torch.__version__}, SmolLM2-135M, ")
    print(f"{args.tokens} tokens in blocks of 256, batches of {args.batch_size}; median of {args.rounds} rounds (min to max)\n")
    print("| dtype | base forward, tokens/s | collection / base forward | collection / full call | peak memory ratio |")
    print("|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        print(row(dtype, device, args))


def row(dtype: torch.dtype, device: str, args: argparse.Namespace) -> str:
    runs = prepare(dtype, device, args.tokens, args.batch_size)
    seconds = {name: [] for name in runs}
    for one_round in range(args.rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if one_round:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    speed = args.tokens / statistics.median(seconds["base"])
    against_base = spread(seconds["collect"], seconds["base"])
    against_full = spread(seconds["collect"], seconds["full"])
    memory = peak_memory("collect", dtype, args) / peak_memory("base", dtype, args)
    name = str(dtype).removeprefix("torch.")
    return f"| {name} | {speed:,.0f} | {against_base} | {against_full} | {memory:.3f} |"


def spread(numerators: list[float], denominators: list[float]) -> str:
    ratios = [top / bottom for top, bottom in zip(numerators, denominators, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def prepare(dtype: torch.dtype, device: str, tokens: int, batch_size: int) -> dict[str, Callable[[], object]]:
    model, tokenizer = models.load("smollm2", dtype=dtype, device_map=device)
    groups = neuron_groups(model)
    blocks = token_blocks("general", tokenizer, tokens=tokens)

    def forward(call: Callable[..., object], blocks: TokenBlocks) -> None:
        with torch.inference_mode():
            for batch in blocks.batches(batch_size):
                call(**batch.inputs(model.device), use_cache=False)

    return {
        "base": lambda: forward(model.base_model, blocks),
        "collect": lambda: collect(model, blocks, groups=groups, batch_size=batch_size, progress=False),
        "full": lambda: forward(model, blocks),
    }


def peak_memory(name: str, dtype: torch.dtype, args: argparse.Namespace) -> int:
    """Peak resident memory, in KiB, of a fresh process that does this one thing (device memory on a GPU)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_alone, (name, dtype, args.tokens, args.batch_size))


def run_alone(name: str, dtype: torch.dtype, tokens: int, batch_size: int) -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    run = prepare(dtype, device, tokens, batch_size)[name]
    gc.collect()
    run()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
