"""Everything that a GPU must show, in one call of under nine minutes and without network.

    python benchmarks/gpu.py                   # on a CUDA device
    python benchmarks/gpu.py --device cpu --shapes tiny --tokens 1024     # the same code without one, to try it

First the tests of `pytest -m gpu`. Then, for models of the shape of Llama at random weights made on the device, in bfloat16:
tokens/s of the base model forward and of gradients, collection over the bare forward pass, peak memory of both, and what
uniform and ragged compaction of half of the FFN neurons is worth. Then `unlearn` on SmolLM2 from end to end, with the time and
the work of every step. A part that would begin after the time limit is left out, and said to be.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import hf_untangle as untangle
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.data.corpora import corpus
from hf_untangle.data.tokens import TokenBlocks
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency

SHAPES = {
    "tiny": (64, 128, 2, 4, 2, 512),
    "135M": (576, 1536, 30, 9, 3, 49_152),
    "1B": (2048, 8192, 16, 32, 8, 128_256),
    "8B": (4096, 14_336, 32, 32, 8, 128_256),
}
"""Width, FFN width, layers, heads, key-value heads and vocabulary."""
BLOCK, ROUNDS = 256, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="+", default=["135M", "1B", "8B"], choices=SHAPES)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=8.5, help="No part begins later than this.")
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads of a processor"
    print(f"{date.today()}, {name}, torch {torch.__version__}, {args.tokens:,} tokens in blocks of {BLOCK}\n", flush=True)
    end = time.monotonic() + 60 * args.minutes
    parts: dict[str, Callable[[], None]] = {"tests": lambda: tests(args.device)}
    parts |= {shape: lambda shape=shape: one_shape(shape, device, args) for shape in args.shapes}
    if "tiny" not in args.shapes:  # which is for trying the script
        parts["unlearn"] = lambda: unlearn_smollm2(device)
    for part, run in parts.items():
        if time.monotonic() > end:
            print(f"\n{part}: left out, as {args.minutes:g} minutes are over.", flush=True)
            continue
        start = time.monotonic()
        print(f"\n## {part}\n", flush=True)
        run()
        print(f"\n({part}: {time.monotonic() - start:.0f} s)", flush=True)


def tests(device: str) -> None:
    environment = os.environ | {"HF_UNTANGLE_TEST_DEVICE": device}
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"], env=environment, check=False)


def one_shape(name: str, device: torch.device, args: argparse.Namespace) -> None:
    hidden, inner, layers, heads, key_value_heads, vocabulary = SHAPES[name]
    settings = {"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": key_value_heads}
    config = LlamaConfig(hidden_size=hidden, intermediate_size=inner, vocab_size=vocabulary, **settings)
    with device:
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model.name_or_path = f"random-{name}"
    ids = torch.randint(vocabulary, (args.tokens // BLOCK, BLOCK), generator=torch.Generator().manual_seed(0))
    every = torch.ones_like(ids, dtype=torch.bool)
    blocks = TokenBlocks(ids, every, every, corpus(["random"]), "train", documents=len(ids))
    groups = neuron_groups(model)

    def forward(one: LlamaForCausalLM) -> None:
        with torch.inference_mode():
            for batch in blocks.batches(args.batch_size):
                one.base_model(**batch.inputs(device), use_cache=False)

    few = blocks.first(max(1, len(ids) // 4))
    runs: dict[str, Callable[[], object]] = {
        "base forward": lambda: forward(model),
        "collection": lambda: collect(model, blocks, groups=groups, batch_size=args.batch_size, progress=False),
        "gradients": lambda: collect_saliency(
            model, few, groups=groups, batch_size=max(1, args.batch_size // 4), progress=False
        ),
    }
    peaks = {what: peak(run, device) for what, run in runs.items()}  # the first run of each warms up
    seconds = {what: [timed(run, device) for _ in range(ROUNDS)] for what, run in runs.items()}
    ratios = [one / bare for one, bare in zip(seconds["collection"], seconds["base forward"], strict=True)]
    print("| what | tokens/s | peak memory, over base forward |\n|---|---|---|")
    for what in runs:
        tokens = few.tokens if what == "gradients" else blocks.tokens
        print(f"| {what} | {tokens / statistics.median(seconds[what]):,.0f} | {peaks[what] / peaks['base forward']:.2f} |")
    print(f"\ncollection over base forward: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})\n")
    print("| compaction of half of the FFN neurons | tokens/s | speed-up |\n|---|---|---|")
    bare = statistics.median(seconds["base forward"])
    for layout in ("uniform", "ragged"):
        smaller = compact(model, half_of_ffns(groups, layout), layout=layout, round_to=64 if layout == "ragged" else 1)
        timed(lambda one=smaller: forward(one), device)
        took = statistics.median(timed(lambda one=smaller: forward(one), device) for _ in range(ROUNDS))
        print(f"| {layout} | {blocks.tokens / took:,.0f} | {bare / took:.2f} |", flush=True)
        del smaller


def half_of_ffns(groups, layout: str) -> NeuronMask:
    """Half of every FFN, or of ragged ones between a quarter and three quarters, half on average."""
    ffns = [group for group in groups if group.kind == "ffn"]
    shares = {
        group.name: 0.5 if layout == "uniform" else 0.25 + 0.5 * number / max(1, len(ffns) - 1)
        for number, group in enumerate(ffns)
    }
    mask = NeuronMask.keep_all(groups, "random")
    return mask.with_kept({group.name: torch.arange(group.size) >= shares[group.name] * group.size for group in ffns})


def unlearn_smollm2(device: torch.device) -> None:
    model, tokenizer = untangle.load("smollm2")
    start = time.monotonic()
    result = untangle.unlearn(model.to(device), forget="code", tokenizer=tokenizer, progress=False)
    took = time.monotonic() - start
    test, history = result.record.test, result.record.history
    print("| step | seconds | tokens in forward passes | code | prose |\n|---|---|---|---|---|")
    for step in history.steps:
        drops = f"-{step.scores.forget_drop(history.base):.1%} | -{step.scores.retain_drop(history.base):.1%}"
        print(f"| {step.number} | {step.seconds:.1f} | {step.forward_tokens or 0:,} | {drops} |")
    print(
        f"\nin all {took:.0f} s, {result.record.dtype}; test parts: code -{test.after.forget_drop(test.before):.1%}, ", end=""
    )
    print(f"prose -{test.after.retain_drop(test.before):.1%}")


def peak(run: Callable[[], object], device: torch.device) -> float:
    """The most memory on the device while something runs; 1 on a processor, where it is not counted."""
    if device.type != "cuda":
        run()
        return 1.0
    torch.cuda.reset_peak_memory_stats()
    run()
    return float(torch.cuda.max_memory_allocated())


def timed(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
