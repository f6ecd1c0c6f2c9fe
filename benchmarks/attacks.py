"""Does code come back? SmolLM2-135M-Instruct without `code`, under every attack, beside the original and random masks.

    python benchmarks/attacks.py --quick                         # searches the mask of the largest difference first
    python benchmarks/attacks.py --quick --mask mask.safetensors # or takes it from there, and keeps it there for the next time
    python benchmarks/attacks.py --set attacks=[relearn] --set steps=40 --figure attacks.png

The figures are of the test parts, which neither the mask nor the settings were chosen by.
"""

import argparse
import logging
import os
import platform
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import torch
from repair import corpora, largest_difference
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import hf_untangle as untangle
from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.pruning.step import Pair, read_pair
from hf_untangle.recipes.read import parse_override


@dataclass
class Pruned:
    """What an attack needs of a result, for a mask that was found elsewhere."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    mask: NeuronMask
    held_out: Pair
    record: SimpleNamespace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", help="a file with the mask, written when it is not there")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    parser.add_argument("--figure", help="a file to draw the outcome into")
    parser.add_argument("--json", help="a file for every reading")
    args = parser.parse_args()
    logging.getLogger("hf_untangle").setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s")
    result = pruned(mask_in(args.mask))
    report = untangle.attack(result, config="quick" if args.quick else "default", **dict(map(parse_override, args.settings)))
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"\n{date.today()}, {platform.machine()}, {threads}, bfloat16; the mask {result.mask.describe()}")
    print(f"{report.record.seconds:.0f} s: " + ", ".join(f"{one.attack} {one.seconds:.0f}" for one in report.record.outcomes))
    print(f"\n{report.markdown()}")
    if args.json:
        report.save(args.json)
    if args.figure:
        report.figure().savefig(args.figure, dpi=150)


def mask_in(file: str | None) -> NeuronMask:
    """Read the mask of a file, or search it, and write it there."""
    if file is not None and Path(file).exists():
        return NeuronMask.load(file)
    mask = largest_difference()
    if file is not None:
        mask.save(file)
    return mask


def pruned(mask: NeuronMask) -> Pruned:
    """SmolLM2 without the neurons of a mask, with the test parts of both corpora."""
    model, tokenizer = models.load("smollm2")
    config = UnlearnConfig()
    remove_(model, mask, neuron_groups(model))
    record = SimpleNamespace(task="next token", model=model.name_or_path, revision=None, repairs=(), config=config)
    return Pruned(model, tokenizer, mask, read_pair(*corpora(), tokenizer, "test", config), record)


if __name__ == "__main__":
    main()
