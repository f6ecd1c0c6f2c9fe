"""What layers, channels and tokens of SmolLM2-135M-Instruct are worth: depth, vocabulary, hidden size, and the best layout.

    python benchmarks/structure.py depth                  # layers go one after another, by loss, by influence, and at random
    python benchmarks/structure.py vocabulary --prose FILE  # 16,384 tokens stay
    python benchmarks/structure.py hidden --prose FILE    # a narrower residual stream, by both bases
    python benchmarks/structure.py layouts --ratio 0.25   # one budget, spent in several ways
    python benchmarks/structure.py speed --target 1.5x    # planned, and measured

What goes is chosen on the train part of `general`; perplexities are of the held-out test part.
"""

import argparse
import logging
import os
import platform
import sys
import tempfile
import time
from datetime import date
from functools import partial
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.hidden_size import cut_hidden_size
from hf_untangle.compaction.vocabulary import cut_vocabulary
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.evaluation.layer_speed import fastest_in_turn
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.pruning.plan import make_plan, read_blocks

SOURCE = corpus("general", prefer="embedded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["depth", "vocabulary", "hidden", "layouts", "speed"])
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--target", default="1.5x")
    parser.add_argument("--sizes", default="16384", help="tokens that stay of the vocabulary, joined by commas")
    parser.add_argument("--hidden-sizes", default="540,504,432", help="multiples of nine heads below 576, joined by commas")
    parser.add_argument("--prose", help="a text file of another kind of prose, which tokens are chosen by too")
    parser.add_argument("--rounds", type=int, default=7, help="how often both models run")
    parser.add_argument("--search-tokens", type=int, default=1024)
    parser.add_argument("--test-tokens", type=int, default=4096)
    parser.add_argument("--seeds", type=int, default=2, help="random choices")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    model, tokenizer = models.load("smollm2", dtype="float32")
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}\n")
    every = {"depth": depth, "vocabulary": vocabulary, "hidden": hidden, "layouts": layouts, "speed": speed}
    every[args.what](model, tokenizer, args)


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
    """Keep the tokens that prose needs most, and read the same documents in all vocabularies."""
    sources = {"general": SOURCE} | ({"prose": corpus(args.prose)} if args.prose else {})
    texts = {name: documents(one, tokenizer, args.test_tokens) for name, one in sources.items()}
    print("| tokens | parameters | bytes of checkpoint | seconds to cut | held-out text | its tokens | nats per character |")
    print("|---|---|---|---|---|---|---|")
    rows_of(model, tokenizer, texts, "")
    for size in map(int, args.sizes.split(",")):
        start = time.perf_counter()
        small = cut_vocabulary(model, list(sources.values()), tokenizer=tokenizer, tokens=1_000_000, size=size)
        rows_of(small.model, small.tokenizer, texts, f"{time.perf_counter() - start:.0f}")


def rows_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: dict[str, list[str]], seconds: str) -> None:
    """Print what a model and its vocabulary are worth on every text."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        size = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    for name, some in texts.items():
        nats, characters, tokens = nats_of(model, tokenizer, some)
        sizes = f"{len(tokenizer):,} | {model.num_parameters():,} | {size:,} | {seconds}"
        print(f"| {sizes} | {name} | {tokens:,} | {nats / characters:.4f} |", flush=True)


def documents(source: Corpus, tokenizer: PreTrainedTokenizerBase, tokens: int) -> list[str]:
    """The beginnings of held-out documents."""
    test = token_blocks(source, tokenizer, tokens=tokens, part="test", block_size=256, packed=False)
    return [tokenizer.decode(row[mask]) for row, mask in zip(test.input_ids, test.attention_mask, strict=True)]


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


def hidden(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: argparse.Namespace) -> None:
    """Make the residual stream narrower, by both bases and refitted on one kind of text or two."""
    sources = {"general": SOURCE} | ({"prose": corpus(args.prose)} if args.prose else {})
    how = {"tokens": args.test_tokens, "part": "test", "block_size": 256}
    tests = {name: token_blocks(one, tokenizer, **how) for name, one in sources.items()}
    calibrations = [["general"]] + ([["general", "prose"]] if args.prose else [])
    print("| hidden size | basis | calibrated on | parameters | seconds | " + " | ".join(tests) + " |")
    print("|---|---|---|---|---|" + "---|" * len(tests))
    cells = [f"{perplexity(model, test):.1f}" for test in tests.values()]
    print(f"| {model.config.hidden_size} | | | {model.num_parameters():,} | | {' | '.join(cells)} |", flush=True)
    for size in map(int, args.hidden_sizes.split(",")):
        for basis in ("rotation", "channels"):
            for names in calibrations:
                start = time.perf_counter()
                data = [sources[name] for name in names]
                small = cut_hidden_size(model, data, size=size, basis=basis, tokenizer=tokenizer, progress=False)
                seconds = time.perf_counter() - start
                cells = [f"{perplexity(small, test):.1f}" for test in tests.values()]
                first = f"| {size} | {basis} | {' and '.join(names)} | {small.num_parameters():,} | {seconds:.0f}"
                print(f"{first} | {' | '.join(cells)} |", flush=True)


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
    """Plan a speed, carry the plan out, and run both models in turn."""
    sizes = {"tokens": 2048, "search_tokens": args.search_tokens, "evaluation_tokens": 2048, "controls": 0}
    blocks = token_blocks(SOURCE, tokenizer, tokens=2048, part="test", block_size=256)
    print(f"| what goes | asked for | in turn, fastest of {args.rounds} | perplexity, of the original |\n|---|---|---|---|")
    for unit in ("neurons", "layers"):
        settings = {"unit": unit, "judge": "influence" if unit == "layers" else None, "target": args.target}
        plan = untangle.plan(model, SOURCE, tokenizer=tokenizer, progress=False, **settings, **sizes)
        result = untangle.prune(model, plan, tokenizer=tokenizer, progress=False)
        runs = [partial(forward, one, blocks) for one in (model, result.model)]
        before, after = fastest_in_turn(runs, args.rounds)
        scores = result.record
        cells = [f"{before / after:.2f}x", f"{scores.after.perplexity:.1f}, {scores.before.perplexity:.1f}"]
        print(f"| {unit} | {args.target} | {' | '.join(cells)} |", flush=True)
        print(plan.describe(), file=sys.stderr)


def forward(model: PreTrainedModel, blocks: TokenBlocks) -> None:
    """Let the base model read some blocks, without its head."""
    with torch.inference_mode():
        model.base_model(**blocks.inputs(torch.device("cpu")), use_cache=False)


def perplexity(model: PreTrainedModel, blocks: TokenBlocks) -> float:
    """Of the model as it is."""
    return next_token_metrics(model, blocks, progress=False).perplexity


if __name__ == "__main__":
    main()
