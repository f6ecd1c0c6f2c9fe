"""A quarter of the FFN neurons of SmolLM2-135M-Instruct, taken out by other packages and by this one: perplexity and time.

    pip install optipfair                       # and, for OSSCAR: pip install --no-deps fmchisel
    python benchmarks/peers.py --prose FILE

All see the same model, the same tokens of the train part of `general`, and the same test parts, and take as many neurons of
every layer. Peers that are not installed are left out. Of fmchisel the solver of OSSCAR alone runs, on second moments of the
original model that are summed here, as the rest of it needs an older transformers. FLAP has no package; `fluctuation` with the
mean in a bias is its formula (arXiv:2312.11983).
"""

import argparse
import logging
import os
import platform
import sys
import time
import types
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compensation.choose import refit_by
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.plan import read_blocks
from hf_untangle.statistics.gram import collect_grams

logger = logging.getLogger("peers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", help="a text file of another kind of prose, to measure on")
    parser.add_argument("--ratio", type=float, default=0.25)
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens to choose neurons by, and to refit on")
    parser.add_argument("--test-tokens", type=int, default=8_192, help="of each text")
    parser.add_argument("--own", default="wanda,wanda+least-squares,fluctuation+mean,magnitude", help="rows of this package")
    parser.add_argument("--dtype", default="float32")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    config = PruneConfig(tokens=args.tokens, evaluation_tokens=args.test_tokens, ratio=args.ratio)
    source = corpus("general", prefer="embedded")
    texts = {"general": source} | ({"prose": corpus(args.prose)} if args.prose else {})
    test = {name: read_blocks(one, tokenizer, "test", config) for name, one in texts.items()}
    print(f"\n{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {model.dtype}")
    dense = perplexities(model, test)
    print(f"original: perplexity { {name: round(one, 1) for name, one in dense.items()} }\n")
    print(f"| package | how | {' | '.join(test)} | seconds of one core |\n|---|---|{'---|' * len(test)}---|")
    blocks = read_blocks(source, tokenizer, "train", config)
    rows: list[tuple[str, str, Callable[[PreTrainedModel], PreTrainedModel]]] = [
        ("hf_untangle", how, lambda one, how=how: own(one, tokenizer, source, config, blocks, *how.split("+")))
        for how in args.own.split(",")
    ]
    if find_spec("optipfair"):
        rows += [("optipfair", how, lambda one, how=how: optipfair(one, how, args.ratio, None)) for how in ("MAW", "L2")]
        rows += [("optipfair", "MAW and activations", lambda one: optipfair(one, "MAW", args.ratio, blocks))]
    if find_spec("fmchisel"):
        rows += [("fmchisel", "OSSCAR", lambda one: osscar(one, args.ratio, blocks))]
    for package, how, cut in rows:
        start = time.process_time()
        smaller = cut(deepcopy(model))
        seconds = time.process_time() - start
        found = perplexities(smaller, test)
        cells = [f"{found[name] / dense[name]:.2f}" for name in test]
        print(f"| {package} | {how} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


def own(  # noqa: PLR0913 (one parameter an option)
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    source: Corpus,
    config: PruneConfig,
    blocks: TokenBlocks,
    importance: str,
    compensate: str = "none",
) -> PreTrainedModel:
    """Prune with this package, without what `prune` measures beside it."""
    mean = {"ablation": "mean"} if compensate == "mean" else {}
    settings = {"importance": importance, "ratio": config.ratio} | mean
    plan = untangle.plan(model, source, tokenizer=tokenizer, config=config, progress=False, **settings)
    refit = refit_by(compensate, model, plan.mask, plan.groups, blocks, progress=False)  # type: ignore[arg-type]
    return remove_(model, plan.mask, plan.groups, constants=plan.constants, weights=None if refit is None else refit.weights)


def optipfair(model: PreTrainedModel, method: str, ratio: float, blocks: TokenBlocks | None) -> PreTrainedModel:
    """Prune with optipfair, by weights alone or with activations too."""
    from optipfair import prune_model  # noqa: PLC0415 (not everybody has it)  # pyright: ignore[reportMissingImports]

    loader = None if blocks is None else [{"input_ids": one[None]} for one in blocks.input_ids]
    return prune_model(model, "MLP_GLU", method, pruning_percentage=100 * ratio, dataloader=loader, show_progress=False)


def osscar(model: PreTrainedModel, ratio: float, blocks: TokenBlocks) -> PreTrainedModel:
    """Choose and refit with the solver of fmchisel, one neuron at a time, with the damping that it comes with."""
    spec = find_spec("fmchisel")
    assert spec is not None and spec.origin is not None
    # The solver takes one constant of a package that needs an older torch, so its file is read alone, beside that constant.
    stub = types.ModuleType("llmcompressor.modifiers.obcq.sgpt_sparsify")
    stub.__dict__["SGPT_PRECISION"] = torch.float32
    names = ("llmcompressor", "llmcompressor.modifiers", "llmcompressor.modifiers.obcq")
    sys.modules |= {name: types.ModuleType(name) for name in names} | {stub.__name__: stub}
    solver = run_path(str(Path(spec.origin).parent / "pruning" / "osscar" / "utils" / "osscar_sparsify.py"))
    groups = [group for group in neuron_groups(model) if group.kind == "ffn"]
    grams = collect_grams(model, blocks, groups, progress=False)
    with torch.no_grad():
        for group in groups:
            module = model.get_submodule(group.name)
            stays = group.size - round(ratio * group.size)
            moments = {module: grams.pop(group.name).second[0].float()}
            _, weight = solver["sparsify_weight"](module, moments, num_keep=stays, update_iter=1, num_cin=group.size)
            module.weight.copy_(weight)
    return model


def perplexities(model: PreTrainedModel, test: Mapping[str, TokenBlocks]) -> dict[str, float]:
    """The perplexity of each text."""
    return {name: next_token_metrics(model, blocks, progress=False).perplexity for name, blocks in test.items()}


if __name__ == "__main__":
    main()
