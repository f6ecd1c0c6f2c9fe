"""Classes out of an image classifier, measured on held-out images.

    python benchmarks/tasks.py

The classifier is a small vision transformer trained here on scikit-learn's digits. Each pair of classes is taken out of a fresh
copy; what stays are the other eight.
"""

import statistics as summary
from copy import deepcopy

import torch

from hf_untangle.recipes.digits_vit import digits_vit
from hf_untangle.unlearn import unlearn

PAIRS = ("0,1", "2,3", "4,5", "6,7", "8,9")
SETTINGS = {"batch_size": 64, "ffn_fraction": 0.02, "attention_fraction": 0.02, "steps": 12, "controls": 3}


def main() -> None:
    torch.set_num_threads(1)
    model = digits_vit()
    print("\n| classes forgotten | steps | their accuracy | that of the others | random masks: theirs | others |")
    print("|---|---|---|---|---|---|")
    for classes in PAIRS:
        record = unlearn(deepcopy(model), f"digits:{classes}", progress=False, **SETTINGS).record
        before, after, controls = record.test.before, record.test.after, record.test.controls
        random = [summary.mean(getattr(one, use).top1 for one in controls) for use in ("forget", "retain")]
        cells = [f"{getattr(before, use).top1:.1%} to {getattr(after, use).top1:.1%}" for use in ("forget", "retain")]
        print(f"| {classes} | {record.history.chosen} | {' | '.join(cells)} | {random[0]:.1%} | {random[1]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
