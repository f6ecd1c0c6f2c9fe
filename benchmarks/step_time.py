"""The time of a training step over that of a bare forward pass of as many rows, for every method that takes gradient steps.

    python benchmarks/step_time.py                       # all of them
    python benchmarks/step_time.py --methods npo,rmu --dtype bfloat16

SmolLM2-135M-Instruct, rows of `code` and `general`, four of each in a step. A backward pass counts for two forward passes, as
in `hf-untangle unlearn --list-methods`; bare passes and steps take turns, as the speed of a machine drifts.
A step counts all of it: gradients, the norm that they are clipped to, the optimizer.
"""

import argparse
import os
import time
from dataclasses import replace
from datetime import date
from statistics import median

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.methods.combined_loss import Ask, prepare
from hf_untangle.methods.cost import cost_of
from hf_untangle.methods.descent import Pace, descend, rows_at_a_time
from hf_untangle.methods.references import predictions_of
from hf_untangle.methods.registry import METHODS, Method
from hf_untangle.methods.writes import Permission, writable

ROWS, WIDTH, BATCH = 4, 256, 8
"""Rows of each corpus in a step, tokens of a row, and rows in a forward pass, as `unlearn` has them."""
ROUNDS = 4
"""Steps and bare passes that are timed, after one of each that is not."""
LAYER = 10
"""Whose hidden states are read, a third of the way up."""
LORA = "@lora"


def main() -> None:
    trained = [name for name, method in METHODS.items() if not method.is_edit]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join([*trained, "npo" + LORA]), help="separated by commas")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(f"{args.dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}, {date.today()}\n")
    print("| method | forward passes, counted | forward passes, by time | ratio |\n|---|---|---|---|")
    model, tokenizer = models.load("smollm2", dtype=args.dtype)
    rows = {name: token_blocks(name, tokenizer, tokens=ROWS * WIDTH, block_size=WIDTH) for name in ("code", "general")}
    for name in args.methods.split(","):
        plain = METHODS[name.removesuffix(LORA)]
        method = replace(plain, writes="lora") if name.endswith(LORA) else plain
        counted = cost_of(method).per_step
        found = passes_per_step(model, tokenizer, method, rows["code"], rows["general"])
        print(f"| {name} | {counted:.2f} | {found:.2f} | {found / counted:.2f} |", flush=True)


def passes_per_step(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, method: Method, forget: TokenBlocks, retain: TokenBlocks
) -> float:
    """The time of a step over that of a bare pass over its forget rows, by medians."""
    groups = neuron_groups(model)
    objective = prepare(model, method, forget, retain, Ask(groups, tokenizer, LAYER, None, BATCH, 0))
    bare, steps = [], []
    with writable(model, method.writes, Permission(groups, layer=LAYER)) as written:
        size = rows_at_a_time(model, written, objective, BATCH)
        # So small a rate that the weights stay where they are, in all digits that count.
        pace = Pace(1e-12, ROUNDS + 1, ROWS, size, 1.0, method.optimizer, 0)
        descent = descend(model, written, objective, pace)
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            with evaluation_mode(model), torch.no_grad():
                predictions_of(model, forget)
            middle = time.perf_counter()
            next(descent)
            bare.append(middle - start)
            steps.append(time.perf_counter() - middle)
        descent.close()
    return median(steps[1:]) / median(bare[1:])


if __name__ == "__main__":
    main()
