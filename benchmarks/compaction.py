"""What a smaller checkpoint is worth: speed against size, and perplexity against random and magnitude masks of equal size.

    python benchmarks/compaction.py             # SmolLM2-135M with a quarter and a half of its FFN neurons taken out
    python benchmarks/compaction.py --memory    # what taking them out from folder to folder needs, against the shard size

Speed: every round times the whole model and the smaller ones on the same batch, one after another, so that they share
whatever else the machine does; the ratio of each round is taken first, and the median of rounds after. A model whose blocks
(all but embeddings) have b parameters instead of a is proportionally fast at a / b times the speed.
"""

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.masks.mask import NeuronMask

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 64}
LAYOUTS = (("uniform", "uniform", None), ("ragged", "global", None), ("ragged", "global", 64))
"""The layout, how removal is spread, and what widths are a multiple of."""
IMPORTANCES = ("wanda", "magnitude", "random")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print(f"\n{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    if args.memory:
        memory()
    else:
        worth(args)


def worth(args: argparse.Namespace) -> None:
    model, tokenizer = models.load("smollm2")
    test = token_blocks("general", tokenizer, tokens=16_384, part="test", block_size=256)
    print("| removed | layout | parameters of blocks | prefill speed | of proportional | wanda | magnitude | random |")
    print("|---|---|---|---|---|---|---|---|")
    print(f"| none | | {in_blocks(model):,} | 1.00 | | {perplexity(model, test):.1f} | | |")
    for ratio in (0.25, 0.5):
        for layout, allocation, round_to in LAYOUTS:
            masks = {
                name: untangle.plan(
                    model, tokenizer=tokenizer, ratio=ratio, importance=name, allocation=allocation, progress=False
                ).mask
                for name in IMPORTANCES
            }
            smaller = untangle.compact(model, masks["wanda"], layout=layout, round_to=round_to)
            speed = speed_ratio(model, smaller, test, args)
            share = in_blocks(smaller) / in_blocks(model)
            scores = [f"{perplexity(untangle.compact(model, mask), test):.1f}" for mask in masks.values()]
            name = f"{layout}, widths in {round_to}s" if round_to else layout
            cells = (f"{ratio:.0%}", name, f"{share:.1%}", f"{speed:.2f}", f"{speed * share:.2f}", *scores)
            print(f"| {' | '.join(cells)} |", flush=True)


def in_blocks(model: PreTrainedModel) -> int:
    """Parameters of everything but the embeddings."""
    return model.num_parameters() - model.get_input_embeddings().weight.numel()


def perplexity(model: PreTrainedModel, blocks: TokenBlocks) -> float:
    return untangle.evaluation.next_token_metrics(model, blocks, progress=False).perplexity


def speed_ratio(model: PreTrainedModel, smaller: PreTrainedModel, blocks: TokenBlocks, args: argparse.Namespace) -> float:
    """How many times as fast the smaller model reads a batch, without the language-model head."""
    batch = {name: value[: args.batch_size] for name, value in blocks.inputs(torch.device("cpu")).items()}
    ratios = []
    with torch.inference_mode():
        for one_round in range(1 + args.rounds):
            seconds = [seconds_of(lambda one=one: one.base_model(**batch, use_cache=False)) for one in (model, smaller)]
            if one_round:  # the first round warms up
                ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory() -> None:
    """Peak memory of removal and of compaction, above that of the process before, for shards of several sizes."""
    print("| largest shard | whole checkpoint | removal, peak | compaction, peak |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in (400, 800, 1600):
            source = Path(folder) / f"source-{megabytes}"
            write_checkpoint(source, megabytes)
            shard, whole = shard_and_whole(source)
            peaks = [peak(name, source, Path(folder)) for name in ("remove_folder", "compact_folder")]
            cells = [f"{shard:.0f} MB", f"{whole:.0f} MB", *(f"{value:.0f} MB ({value / shard:.2f} shards)" for value in peaks)]
            print(f"| {' | '.join(cells)} |", flush=True)


def write_checkpoint(folder: Path, megabytes: int) -> None:
    """Six layers of the size of a model of 3 billion parameters, with random weights in bfloat16."""
    config = AutoConfig.for_model(
        "llama", hidden_size=3072, intermediate_size=12_288, num_hidden_layers=6, num_attention_heads=24, vocab_size=16_384
    )
    config.dtype = torch.bfloat16
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size=f"{megabytes}MB")


def shard_and_whole(folder: Path) -> tuple[float, float]:
    sizes = [file.stat().st_size / 1e6 for file in folder.glob("*.safetensors")]
    return max(sizes), sum(sizes)


def peak(name: str, source: Path, folder: Path) -> float:
    """The peak of a fresh process, in megabytes above what it had before the call."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measured, (name, str(source), str(folder / f"{name}-target")))


def measured(name: str, source: str, target: str) -> float:
    config = AutoConfig.from_pretrained(source)
    mask = half_of_every_ffn(config.num_hidden_layers, config.intermediate_size)
    work = getattr(untangle, name)
    with tempfile.TemporaryDirectory() as folder:  # so that all code is loaded
        AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **TINY)).save_pretrained(f"{folder}/tiny")
        work(f"{folder}/tiny", f"{folder}/smaller", half_of_every_ffn(1, 64))
    before, highest, done = resident(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            highest[0] = max(highest[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work(source, target, mask)
    finally:
        done.set()
        watcher.join()
    return highest[0] - before


def half_of_every_ffn(layers: int, size: int) -> NeuronMask:
    names = [f"model.layers.{layer}.mlp.down_proj" for layer in range(layers)]
    kept = {name: torch.arange(size) % 2 == 0 for name in names}
    return NeuronMask(kept, dict.fromkeys(names, "ffn"), "random")


def resident() -> float:
    """Memory of this process in megabytes, pages of files that it has mapped included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    main()
