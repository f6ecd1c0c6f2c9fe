"""How much of a trained network is needed: one-shot magnitude pruning without retraining, across widths and on SmolLM2.

    python benchmarks/density.py mlp convolutional residual     # digits; minutes
    python benchmarks/density.py llama gpt2                     # bytes of this package's prose; most of an hour
    python benchmarks/density.py hypotheses                     # initial scale, weight decay, training length
    python benchmarks/density.py smollm2                        # weights and neurons of a real language model
    python benchmarks/density.py figures                        # docs/density-*.png, from what the others wrote

Every part writes a JSON file into --output and prints a table. Shares are first crossings, means over three seeds with the
standard deviation between them, one random order a network; tolerance 5 points of accuracy. MLPs are swept at every percent,
the others every 5% and then every 1% around the crossings.
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

from hf_untangle import density, models, papers
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import corpus
from hf_untangle.density.measure import next_token_measure
from hf_untangle.papers.scaling.plots import density_across_widths
from hf_untangle.papers.scaling.scaling import ScalingResult
from hf_untangle.reporting.density import density_curves

SEEDS = (0, 1, 2)
TENTHS = tuple(tick / 10 for tick in range(1, 11))
EVERY_PERCENT = {"grid": tuple(tick / 100 for tick in range(1, 101)), "refine": 0.0}
FAMILIES = {
    "mlp": (papers.image_family("mlp"), (16, 32, 64, 128, 256, 512, 800)),
    "convolutional": (papers.image_family("convolutional", training=papers.Training(epochs=30)), (2, 4, 8, 16, 32, 64, 100)),
    "residual": (papers.image_family("residual", training=papers.Training(epochs=15)), (2, 4, 8, 16, 32, 64, 100)),
    "llama": (papers.language_family("llama", training=papers.LanguageTraining(steps=300)), (8, 16, 32, 64, 128)),
    "gpt2": (papers.language_family("gpt2", training=papers.LanguageTraining(steps=300)), (8, 16, 32, 64, 128)),
}
BASE = papers.Training()
HYPOTHESES = {
    "initial scale": [replace(BASE, initial_scale=scale) for scale in (0.5, 1.0, 2.0)],
    "weight decay": [replace(BASE, weight_decay=decay) for decay in (0.0, 0.3, 3.0)],
    "training length": [replace(BASE, epochs=epochs) for epochs in (20, 60, 180)],
}
SWEEPS = {
    "weights by magnitude": {},
    "neurons by wanda": {"unit": "neurons", "score": "wanda"},
    "weights in random order": {"score": "random"},
    "neurons in random order": {"unit": "neurons", "score": "random"},
    "weights by magnitude, by layer": {"scope": "layer"},
    "weights by wanda": {"score": "wanda"},
    "neurons by magnitude": {"unit": "neurons"},
    "weights by magnitude, perplexity x1.05": {"tolerance": "perplexity"},
    "neurons by wanda, perplexity x1.05": {"unit": "neurons", "score": "wanda", "tolerance": "perplexity"},
}
DRAWN = 4
"""How many of them fit into one figure."""
TOKENS = 4096


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
    result = papers.across_widths(family, widths, SEEDS, **EVERY_PERCENT if name == "mlp" else {})
    save(output / name, result)
    print(f"\n{name}\n\n| width | weights | accuracy | prunable | in random order | core |\n|---|---|---|---|---|---|")
    for width in result.widths:
        print(
            f"| {width.width} | {width.parameters:,} | {width.base:.3f} | {spread(width.share, width.share_spread)} "
            f"| {width.random:.1%} | {width.unprunable:,.0f} |"
        )
    print(f"\nlog(core) against log(weights): {result.fit.describe() if result.fit else 'no fit'}")
    for claim in result.claims:
        print(f"- {claim.text}: {'holds' if claim.holds else 'does not hold'} ({claim.evidence})")


def hypotheses(output: Path) -> None:
    widths = (32, 128, 256)
    heads = " | ".join(f"width {width}" for width in widths)
    print(f"\n| what is changed | value | {heads} | slope |\n|{'---|' * (len(widths) + 3)}")
    for hypothesis, trainings in HYPOTHESES.items():
        for training in trainings:
            changed = {"initial scale": "initial_scale", "weight decay": "weight_decay", "training length": "epochs"}[
                hypothesis
            ]
            family = papers.image_family("mlp", training=training)
            result = papers.across_widths(family, widths, SEEDS, control=False, **EVERY_PERCENT)
            value = getattr(training, changed)
            save(output / f"{changed}-{value}", result)
            cells = " | ".join(f"{spread(w.share, w.share_spread)} (acc. {w.base:.3f})" for w in result.widths)
            print(f"| {hypothesis} | {value} | {cells} | {result.fit.describe() if result.fit else 'none'} |", flush=True)


def smollm2(output: Path) -> None:
    model, tokenizer = models.load("smollm2")
    text = corpus("general", prefer="embedded")
    evaluation, calibration = (token_blocks(text, tokenizer, tokens=TOKENS, part=part) for part in ("validation", "train"))
    print(f"\n{evaluation.tokens:,} tokens of {text.source}, validation part")
    print("\n| what goes | whole | first crossing | last | core | of | seconds |\n|---|---|---|---|---|---|---|")
    for name, changes in SWEEPS.items():
        metric = "loss" if "tolerance" in changes else "accuracy"
        measure = next_token_measure(evaluation, calibration, metric)
        result = density.sweep(model, measure, grid=TENTHS, refine=0.02, **changes)
        save(output / f"smollm2 {name}", result)
        print(
            f"| {name} | {result.base:.4f} | {result.first:.0%} | {result.last:.0%} | {result.unprunable:,} "
            f"| {result.parameters:,} | {result.seconds:.0f} |",
            flush=True,
        )


def figures(output: Path) -> None:
    docs = Path(__file__).parents[1] / "docs"
    families: list[ScalingResult] = [load(output / name) for name in FAMILIES if exists(output / name)]
    if families:
        density_across_widths(families).savefig(docs / "density-across-widths.png", dpi=150)
    sweeps = [name for name in list(SWEEPS)[:DRAWN] if exists(output / f"smollm2 {name}")]
    if sweeps:
        curves = {name: load(output / f"smollm2 {name}") for name in sweeps}
        density_curves(curves).savefig(docs / "density-smollm2.png", dpi=150)


def spread(mean: float, deviation: float) -> str:
    return f"{100 * mean:.1f} +- {100 * deviation:.1f}%"


def save(file: Path, result) -> None:
    file.with_name(f"{file.name}.json").write_bytes(to_json(result.record(), indent=2, inf_nan_mode="strings"))
    file.with_name(f"{file.name}.pickle").write_bytes(pickle.dumps(result))


def exists(file: Path) -> bool:
    return file.with_name(f"{file.name}.pickle").exists()


def load(file: Path):
    return pickle.loads(file.with_name(f"{file.name}.pickle").read_bytes())


if __name__ == "__main__":
    main()
