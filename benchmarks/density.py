"""How much of a trained network is needed: one-shot magnitude pruning without retraining, across widths and on SmolLM2.

    python benchmarks/density.py mlp convolutional residual     # digits; minutes
    python benchmarks/density.py llama gpt2                     # bytes of this package's prose; most of an hour
    python benchmarks/density.py hypotheses                     # initial scale, weight decay, training length
    python benchmarks/density.py smollm2                        # weights and neurons of a real language model
    python benchmarks/density.py figures                        # docs/density-*.png, from what the others wrote

Every part writes a JSON file into --output and prints a table. Shares are first crossings, means over three seeds with the
standard deviation between them; tolerance 5 points of accuracy, whole grid in steps of 1% on digits.
"""

import argparse
import logging
import os
import pickle
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from pydantic_core import to_json

from hf_untangle import density, models
from hf_untangle.density.scaling import ScalingResult

SEEDS = (0, 1, 2)
EVERY_PERCENT = {"grid": tuple(tick / 100 for tick in range(1, 101)), "refine": 0.0}
FAMILIES = {
    "mlp": (density.image_family("mlp"), (16, 32, 64, 128, 256, 512, 800)),
    "convolutional": (density.image_family("convolutional"), (2, 4, 8, 16, 32, 64, 100)),
    "residual": (density.image_family("residual", training=density.Training(epochs=30)), (2, 4, 8, 16, 32, 64, 100)),
    "llama": (density.language_family("llama", training=density.LanguageTraining(steps=300)), (8, 16, 32, 64, 128)),
    "gpt2": (density.language_family("gpt2", training=density.LanguageTraining(steps=300)), (8, 16, 32, 64, 128)),
}
BASE = density.Training()
HYPOTHESES = {
    "initial scale": [replace(BASE, initial_scale=scale) for scale in (0.5, 1.0, 2.0)],
    "weight decay": [replace(BASE, weight_decay=decay) for decay in (0.0, 0.3, 3.0)],
    "training length": [replace(BASE, epochs=epochs) for epochs in (20, 60, 180)],
}
SWEEPS = {
    "weights, magnitude": {},
    "weights, magnitude, by layer": {"scope": "layer"},
    "weights, wanda": {"score": "wanda"},
    "weights, random": {"score": "random"},
    "weights, magnitude, perplexity x1.05": {"tolerance": "perplexity"},
    "neurons, magnitude": {"unit": "neurons"},
    "neurons, wanda": {"unit": "neurons", "score": "wanda"},
    "neurons, wanda, perplexity x1.05": {"unit": "neurons", "score": "wanda", "tolerance": "perplexity"},
    "neurons, random": {"unit": "neurons", "score": "random"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=[*FAMILIES, "hypotheses", "smollm2", "figures"])
    parser.add_argument("--output", type=Path, default=Path("out/density"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    logging.getLogger("hf_untangle").setLevel(logging.ERROR)
    others: dict[str, Callable[[Path], None]] = {"hypotheses": hypotheses, "smollm2": smollm2, "figures": figures}
    for part in args.parts:
        start = time.perf_counter()
        others.get(part, lambda output, part=part: across(part, output))(args.output)
        seconds = time.perf_counter() - start
        hardware = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        print(f"\n{date.today()}, {hardware}, {seconds:.0f} s\n")


def across(name: str, output: Path) -> None:
    family, widths = FAMILIES[name]
    result = density.across_widths(family, widths, SEEDS, **EVERY_PERCENT if name not in ("llama", "gpt2") else {})
    save(output / name, result)
    print(f"\n{name}\n\n| width | weights | accuracy | prunable | in random order | core |\n|---|---|---|---|---|---|")
    for width in result.widths:
        print(
            f"| {width.width} | {width.parameters:,} | {width.base:.3f} | {spread(width.share, width.share_spread)} "
            f"| {width.random:.1%} | {width.unprunable:,.0f} |"
        )
    print(f"\nlog(core) = {result.fit.slope:.3f} (+- {result.fit.slope_error:.3f}) log(weights) + {result.fit.intercept:.2f}")
    for claim in result.claims:
        print(f"- {claim.text}: {'holds' if claim.holds else 'does not hold'} ({claim.evidence})")


def hypotheses(output: Path) -> None:
    widths = (32, 128, 512)
    heads = " | ".join(f"width {width}" for width in widths)
    print(f"\n| what is changed | value | {heads} | slope |\n|{'---|' * (len(widths) + 3)}")
    for hypothesis, trainings in HYPOTHESES.items():
        for training in trainings:
            changed = {"initial scale": "initial_scale", "weight decay": "weight_decay", "training length": "epochs"}[
                hypothesis
            ]
            family = density.image_family("mlp", training=training)
            result = density.across_widths(family, widths, SEEDS, control=False, **EVERY_PERCENT)
            value = getattr(training, changed)
            save(output / f"{changed}-{value}", result)
            cells = " | ".join(f"{spread(w.share, w.share_spread)} (acc. {w.base:.3f})" for w in result.widths)
            print(f"| {hypothesis} | {value} | {cells} | {result.fit.slope:.2f} +- {result.fit.slope_error:.2f} |", flush=True)


def smollm2(output: Path) -> None:
    model, tokenizer = models.load("smollm2", dtype="bfloat16")
    print("\n| sweep | whole | first crossing | last | core | of | seconds |\n|---|---|---|---|---|---|---|")
    for name, changes in SWEEPS.items():
        for seed in SEEDS if changes.get("score") == "random" else SEEDS[:1]:
            result = density.sweep(model, "general", tokenizer=tokenizer, seed=seed, **changes)
            label = f"{name}, seed {seed}" if changes.get("score") == "random" else name
            save(output / f"smollm2-{label.replace(', ', '-').replace(' ', '-')}", result)
            print(
                f"| {label} | {result.base:.4f} | {result.first:.0%} | {result.last:.0%} | {result.unprunable:,} "
                f"| {result.parameters:,} | {result.seconds:.0f} |",
                flush=True,
            )


def figures(output: Path) -> None:
    from hf_untangle.reporting.density import density_across_widths, density_curves

    docs = Path(__file__).parents[1] / "docs"
    families: list[ScalingResult] = [load(output / name) for name in FAMILIES if (output / f"{name}.pickle").exists()]
    density_across_widths(families).savefig(docs / "density-across-widths.png", dpi=150)
    names = ("weights-magnitude", "weights-wanda", "weights-random-seed-0", "neurons-wanda", "neurons-random-seed-0")
    curves = {name.replace("-", ", ", 1): load(output / f"smollm2-{name}") for name in names}
    density_curves(curves).savefig(docs / "density-smollm2.png", dpi=150)


def spread(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f} +- {100 * deviation:.1f}%"


def save(file: Path, result) -> None:
    file.with_suffix(".json").write_bytes(to_json(result.record(), indent=2, inf_nan_mode="strings"))
    file.with_name(f"{file.name}.pickle").write_bytes(pickle.dumps(result))


def load(file: Path):
    return pickle.loads(file.with_name(f"{file.name}.pickle").read_bytes())


if __name__ == "__main__":
    main()
