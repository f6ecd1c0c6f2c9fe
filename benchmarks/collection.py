"""What collecting statistics costs, against the bare forward pass on the same batches, in one run.

    python benchmarks/collection.py                     # the cost, and memory
    python benchmarks/collection.py processes           # two processes against one, a thread each
    PYTHONPATH=... python benchmarks/collection.py taker    # against the method's original public code, where it is installed

Every round times the base model alone, collection, and the full call with the language-model head, one after another, so
that they share whatever else the machine does; the ratio of each round is taken first, and the median of rounds after.
Memory is the peak of a process of its own. On a CPU the model is SmolLM2-135M; on a GPU, models of the shape of Llama with
135M, 1B and 8B random weights run in bfloat16 with 4,096 tokens a forward pass.
"""

import argparse
import gc
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.statistics.collect import collect

GPU = torch.cuda.is_available()
SHAPES = {
    "135M": (576, 1536, 30, 9, 3, 49_152),
    "1B": (2048, 8192, 16, 32, 8, 128_256),
    "8B": (4096, 14_336, 32, 32, 8, 128_256),
}
"""Width, FFN width, layers, heads, key-value heads and vocabulary of Llama-shaped models."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("cost", "processes", "taker"), default="cost")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--batch-size", type=int, default=16 if GPU else 8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], help="Of the cost on a CPU.")
    args = parser.parse_args()
    hardware = torch.cuda.get_device_name() if GPU else f"{torch.get_num_threads()} threads"
    print(
        f"\n{date.today()}, {platform.machine()}, {hardware}, torch {torch.__version__}, {args.tokens} tokens in blocks of 256,"
    )
    print(f"batches of {args.batch_size}; median of {args.rounds} rounds (min to max)\n")
    {"cost": cost, "processes": processes, "taker": against_taker}[args.what](args)


def cost(args: argparse.Namespace) -> None:
    print("| model | dtype | base forward, tokens/s | collection / base forward | collection / full call | peak memory ratio |")
    print("|---|---|---|---|---|---|")
    for name, dtype in [(name, "bfloat16") for name in SHAPES] if GPU else [("smollm2", dtype) for dtype in args.dtypes]:
        runs = prepare(name, dtype, args)
        seconds = timed(runs, args.rounds)
        speed = args.tokens / statistics.median(seconds["base"])
        ratios = f"{spread(seconds['collect'], seconds['base'])} | {spread(seconds['collect'], seconds['full'])}"
        print(f"| {name} | {dtype} | {speed:,.0f} | {ratios} |", end="", flush=True)
        del runs
        memory = peak_memory("collect", name, dtype, args) / peak_memory("base", name, dtype, args)
        print(f" {memory:.3f} |", flush=True)


def timed(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every run in every round but the first, which warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for one_round in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if GPU:
                torch.cuda.synchronize()
            if one_round:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(numerators: list[float], denominators: list[float]) -> str:
    ratios = [top / bottom for top, bottom in zip(numerators, denominators, strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def prepare(name: str, dtype: str, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    model, blocks = load(name, dtype, args.tokens)
    groups = neuron_groups(model)

    def forward(call: Callable[..., object]) -> None:
        with torch.inference_mode():
            for batch in blocks.batches(args.batch_size):
                call(**batch.inputs(model.device), use_cache=False)

    return {
        "base": lambda: forward(model.base_model),
        "collect": lambda: collect(model, blocks, groups=groups, batch_size=args.batch_size, progress=False),
        "full": lambda: forward(model),
    }


def load(name: str, dtype: str, tokens: int) -> tuple[PreTrainedModel, TokenBlocks]:
    """SmolLM2 with prose, or random weights with random tokens."""
    if name == "smollm2":
        model, tokenizer = models.load(name, dtype=dtype)
        return model, token_blocks("general", tokenizer, tokens=tokens)
    hidden, intermediate, layers, heads, key_value_heads, vocabulary = SHAPES[name]
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        vocab_size=vocabulary,
        dtype=dtype,
    )
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(getattr(torch, dtype)).eval()
    ids = torch.randint(vocabulary, (tokens // 256, 256))
    every = torch.ones_like(ids, dtype=torch.bool)
    return model, TokenBlocks(ids, every, every, corpus(["random"]), "train", documents=len(ids))


def peak_memory(what: str, name: str, dtype: str, args: argparse.Namespace) -> int:
    """Peak resident memory, in KiB, of a fresh process that does this one thing (device memory on a GPU)."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_alone, (what, name, dtype, args))


def run_alone(what: str, name: str, dtype: str, args: argparse.Namespace) -> int:
    run = prepare(name, dtype, args)[what]
    gc.collect()
    run()
    return torch.cuda.max_memory_allocated() // 1024 if GPU else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def processes(args: argparse.Namespace) -> None:
    print("| processes, one thread each | tokens/s | efficiency |")
    print("|---|---|---|")
    alone = args.tokens / collection_seconds(1, args)
    both = args.tokens / collection_seconds(2, args)
    print(f"| 1 | {alone:,.0f} | |\n| 2 | {both:,.0f} | {both / alone / 2:.1%} |")


def collection_seconds(count: int, args: argparse.Namespace) -> float:
    """The median time of a collection that so many processes share, from when all are ready to when all have the sums."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    workers = [context.Process(target=share, args=(number, count, args, answers)) for number in range(count)]
    for worker in workers:
        worker.start()
    found = [answers.get() for _ in workers]
    for worker in workers:
        worker.join()
    return max(found)


def share(number: int, count: int, args: argparse.Namespace, answers: Any) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577"}
    torch.distributed.init_process_group("gloo", rank=number, world_size=count)
    run = prepare("smollm2", "bfloat16", args)["collect"]
    seconds = []
    for _ in range(args.rounds + 1):
        torch.distributed.barrier()
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    answers.put(statistics.median(seconds[1:]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def against_taker(args: argparse.Namespace) -> None:
    print("| dtype | original, tokens/s | ours, one block a pass | ours, batches | ours / original (one block, batches) |")
    print("|---|---|---|---|---|")
    for dtype, theirs in (("float32", "fp32"), ("bfloat16", "bfp16")):
        speed = speeds_beside_taker(dtype, theirs, args)
        ratios = ", ".join(f"{speed[name] / speed['taker']:.0f}" for name in ("single", "batches"))
        print(f"| {dtype} | {speed['taker']:,.0f} | {speed['single']:,.0f} | {speed['batches']:,.0f} | {ratios} |", flush=True)


def speeds_beside_taker(dtype: str, theirs: str, args: argparse.Namespace) -> dict[str, float]:
    """Tokens a second of both on the same model and blocks; the original code runs one block a pass."""
    from taker import activations  # pyright: ignore[reportMissingImports]
    from taker.data_classes import EvalConfig  # pyright: ignore[reportMissingImports]
    from taker.model import Model  # pyright: ignore[reportMissingImports]

    model, blocks = load("smollm2", dtype, args.tokens)
    groups, few = neuron_groups(model), blocks.first(2)
    original = Model(str(models.embedded_checkpoint("smollm2")), dtype=theirs, model_device="cpu", use_accelerator=False)
    original.get_ids = lambda row: row
    activations.prepare_dataset = lambda _: [{"text": row[None]} for row in few.input_ids]
    runs = {
        "taker": lambda: activations.get_midlayer_data(original, sample_size=10**9, eval_config=EvalConfig("blocks")),
        "single": lambda: collect(model, few, groups=groups, batch_size=1, progress=False),
        "batches": lambda: collect(model, blocks, groups=groups, batch_size=args.batch_size, progress=False),
    }
    seconds = {name: statistics.median(times) for name, times in timed(runs, args.rounds).items()}
    return {name: (blocks if name == "batches" else few).tokens / one for name, one in seconds.items()}


if __name__ == "__main__":
    main()
