"""What whole layers, and tokens, of SmolLM2-135M-Instruct are worth: depth, vocabulary, and the best layout of a budget.

    python benchmarks/structure.py depth                  # layers go one after another, by loss, by influence, and at random
    python benchmarks/structure.py vocabulary             # 16,384 tokens stay
    python benchmarks/structure.py layouts --ratio 0.25   # one budget, spent in several ways
    python benchmarks/structure.py speed --target 1.5x    # planned, and measured

What goes is chosen on the train part of `general`; perplexities are of the held-out test part.
"""

import argparse
import logging
import math
import os
import platform
import tempfile
import time
from datetime import date
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.vocabulary import cut_vocabulary
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.pruning.plan import make_plan, read_blocks

SOURCE = corpus("general", prefer="embedded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["depth", "vocabulary", "layouts", "speed"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--target", default="1.5x")
    parser.add_argument("--size", type=int, default=16_384, help="tokens that stay of the vocabulary")
    parser.add_argument("--search-tokens", type=int, default=1024)
    parser.add_argument("--test-tokens", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=2, help="random choices")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    model, tokenizer = models.load("smollm2", dtype="float32")
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}\n")
    {"depth": depth, "vocabulary": vocabulary, "layouts": layouts, "speed": speed}[args.what](model, tokenizer, args)


def depth(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Take layers out one after another."""
    groups = neuron_groups(model)
    sizes = {"tokens": 4096, "search_tokens": args.search_tokens, "evaluation_tokens": args.test_tokens}
    configs = {
        judge: PruneConfig().with_settings(unit="layers", judge=judge, ratio=(args.layers + 0.5) / 30, **sizes)
        for judge in ("loss", "influence")
    }
    train, test = (read_blocks(SOURCE, tokenizer, part, configs["loss"]) for part in ("train", "test"))
    orders, seconds = {}, {}
    for judge, config in configs.items():
        start = time.perf_counter()
        made = make_plan(model, groups, train, config, progress=False)
        orders[judge], seconds[judge] = made.choice.gone, time.perf_counter() - start
    units, everything = made.choice.units, untangle.NeuronMask.keep_all(groups, made.mask.model)
    assert units is not None
    for seed in range(args.seeds):
        drawn = torch.randperm(len(units), generator=torch.Generator().manual_seed(seed)).tolist()
        orders[f"random, seed {seed}"] = tuple(drawn[: args.layers])
    print(f"layers chosen on {args.search_tokens:,} tokens, perplexity of {test.tokens:,} held-out tokens of general")
    print(f"original: {perplexity(model, test):.1f}; seconds to choose: {seconds}\n")
    print("| layers that go | " + " | ".join(orders) + " |\n|---|" + "---|" * len(orders))
    for count in range(1, args.layers + 1):
        cells = []
        for name, order in orders.items():
            if name != "loss" and count % 2:
                cells.append("")
                continue
            with masked(model, units.without(everything, order[:count])):
                cells.append(f"{perplexity(model, test):.1f}")
        print(f"| {count} | " + " | ".join(cells) + " |", flush=True)
    print("\norders:", orders)


def vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Keep the tokens that prose needs most, and read the same documents in both vocabularies."""
    start = time.perf_counter()
    small = cut_vocabulary(model, SOURCE, tokenizer=tokenizer, tokens=1_000_000, size=args.size)
    seconds = time.perf_counter() - start
    test = token_blocks(SOURCE, tokenizer, tokens=args.test_tokens, part="test", block_size=256, packed=False)
    texts = [tokenizer.decode(row[mask]) for row, mask in zip(test.input_ids, test.attention_mask, strict=True)]
    print("| | tokens | parameters | bytes of the checkpoint | tokens of the text | nats per character | its perplexity |")
    print("|---|---|---|---|---|---|---|")
    for name, one, words in (("whole", model, tokenizer), ("smaller", small.model, small.tokenizer)):
        nats, characters, tokens = nats_of(one, words, texts)
        with tempfile.TemporaryDirectory() as folder:
            one.save_pretrained(folder)
            words.save_pretrained(folder)
            size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
        each = nats / characters
        sizes = f"{len(words):,} | {one.num_parameters():,} | {size:,} | {tokens:,}"
        print(f"| {name} | {sizes} | {each:.4f} | {math.exp(each):.4f} |")
    print(f"\n{seconds:.0f} seconds to cut; {len(texts)} documents")


def nats_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> tuple[float, int, int]:
    """The summed loss of some texts, each from its second token on, and their characters and tokens."""
    nats, characters, tokens = 0.0, 0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        if ids.shape[1] > 1:
            with torch.inference_mode():
                logits = model(input_ids=ids).logits[0, :-1].float()
            nats += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            # The first token is given, so that the characters that are predicted are those behind it.
            characters += len(text) - len(tokenizer.decode(ids[0, :1]))
            tokens += ids.shape[1]
    return nats, characters, tokens


def layouts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Spend one budget in several ways."""
    sizes = {"tokens": 8192, "search_tokens": args.search_tokens, "evaluation_tokens": args.test_tokens}
    config = PruneConfig().with_settings(unit="any", judge="influence", ratio=args.ratio, **sizes)
    groups = neuron_groups(model)
    train, test = (read_blocks(SOURCE, tokenizer, part, config) for part in ("train", "test"))
    made = make_plan(model, groups, train, config, progress=False)
    print(made.describe())
    with masked(model, made.mask):
        print(f"held out: {perplexity(model, test):.1f}")


def speed(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Plan a speed, carry the plan out, and measure both models."""
    sizes = {"tokens": 4096, "search_tokens": args.search_tokens, "evaluation_tokens": 2048, "controls": 0}
    for unit in ("neurons", "layers"):
        judge = "influence" if unit == "layers" else None
        result = untangle.prune(
            model, SOURCE, tokenizer=tokenizer, unit=unit, judge=judge, target=args.target, progress=False, **sizes
        )
        before, after = result.record.footprint_before, result.record.footprint_after
        print(f"{unit}: asked for {args.target}, measured {after.tokens_per_second / before.tokens_per_second:.2f}x")


def perplexity(model: PreTrainedModel, blocks: TokenBlocks) -> float:
    """Of the model as it is."""
    return next_token_metrics(model, blocks, progress=False).perplexity


if __name__ == "__main__":
    main()
