"""A finished run as it might have been, for the tests of what is said about it."""

import math
from hashlib import sha256

import torch

from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.evaluation.next_token import NextTokenMetrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.records.attacks import AttackOutcome, AttackRecord, Reading
from hf_untangle.records.unlearning import (
    Comparison,
    Continuation,
    GroupCount,
    History,
    RepairRecord,
    RobustifyRecord,
    Scores,
    Step,
    UnlearnRecord,
)
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.moments import Moments

LAYERS, FFN, ATTENTION = 6, 96, 32
CODE = (0.343, 0.287, 0.197, 0.140, 0.109, 0.078, 0.073, 0.061)
PROSE = (0.329, 0.321, 0.310, 0.304, 0.285, 0.266, 0.270, 0.270)


def scores(forget: float, retain: float, perplexity: tuple[float, float] = (20.0, 48.0)) -> Scores:
    """Metrics that agree with two accuracies; an infinite perplexity is a loss of 1,000 nats."""

    def metrics(top1: float, value: float) -> NextTokenMetrics:
        loss = math.log(value) if math.isfinite(value) else 1000.0
        return NextTokenMetrics(tokens=8192, top1=top1, top10=min(1.0, 1.6 * top1), loss=loss)

    return Scores(forget=metrics(forget, perplexity[0]), retain=metrics(retain, perplexity[1]))


def corpora(forget: str = "code", retain: str = "general", origin: str = "embedded") -> dict[str, dict[str, object]]:
    """What was read, by use and part."""
    places = {"forget": (forget, "Python 3.12.4 standard library", "PSF-2.0"), "retain": (retain, "prose", "Apache-2.0")}
    return {
        f"{use}_{part}": {
            "corpus": name,
            "origin": origin,
            "source": source,
            "license": license,
            "part": part,
            "documents": 40,
            "blocks": 32,
            "tokens": 32_768 if part == "train" else 8_192,
            "fingerprint": sha256(f"{use} {part}".encode()).hexdigest()[:16],
        }
        for use, (name, source, license) in places.items()
        for part in ("train", "validation", "test")
    }


def history(steps: int = 8, controls: int = 1, chosen: int = 4) -> History:
    """A run that forgets code step by step."""
    made = tuple(
        Step(
            number=number,
            removed={"ffn": 6 * number, "attention": number},
            scores=scores(CODE[number - 1], PROSE[number - 1]),
            controls=tuple(scores(0.5 - 0.02 * number - 0.004 * i, 0.33 - 0.013 * number) for i in range(controls)),
            seconds=20.0,
        )
        for number in range(1, steps + 1)
    )
    return History(base=scores(0.503, 0.329), steps=made, chosen=chosen)


def groups() -> tuple[GroupCount, ...]:
    """More neurons are gone from late layers than from early ones."""
    return tuple(
        GroupCount(name=f"model.layers.{layer}.{path}", kind=kind, layer=layer, removed=removed, neurons=neurons)
        for layer in range(LAYERS)
        for path, kind, removed, neurons in (
            ("self_attn.o_proj", "attention", layer // 2, ATTENTION),
            ("mlp.down_proj", "ffn", 2 + 2 * layer, FFN),
        )
    )


def a_record(**changes: object) -> UnlearnRecord:
    """A run on the model of a Hub id, some of its fields changed."""
    fields: dict[str, object] = {
        "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
        "dtype": "bfloat16",
        "parameters": 134_515_008,
        "parameters_removed": 3_189_120,
        "still_computed": 7,
        "groups": groups(),
        "config": UnlearnConfig(seed=3),
        "corpora": corpora(),
        "history": history(),
        "test": Comparison(
            before=scores(0.502, 0.326),
            after=scores(0.146, 0.306, (812.0, 55.5)),
            controls=(scores(0.462, 0.301, (26.1, 61.0)),),
        ),
        "continuations": (
            Continuation(prompt="def add(a, b):\n", before="    return a + b\n", after=" the <b>river</b> & the sea"),
            Continuation(prompt="The harbour was", before=" full of boats.", after=" full of ships."),
        ),
        "versions": {"python": "3.12.4", "torch": "2.13.0", "transformers": "5.23.0"},
        "device": "cpu, x86_64, 2 threads of 2 cores",
        "date": "2026-11-22",
        "seconds": 252.4,
    }
    return UnlearnRecord.model_validate(fields | changes)


def a_mask(record: UnlearnRecord) -> NeuronMask:
    """A mask that removes as many neurons of every group as the record says, the first ones."""
    kept = {group.name: torch.arange(group.neurons) >= group.removed for group in record.groups}
    return NeuronMask(kept, {group.name: group.kind for group in record.groups}, record.model)


def some_statistics(record: UnlearnRecord, seed: int, boost: float = 1.0) -> ActivationStatistics:
    """Log-normal activations; those of removed neurons are larger by a factor."""
    generator = torch.Generator().manual_seed(seed)
    moments = {}
    for group in record.groups:
        size = torch.randn(group.neurons, generator=generator, dtype=torch.float64).mul(0.8).exp()
        size[: group.removed] *= boost
        count = torch.tensor(1000)
        moments[group.name] = Moments(count, size * 0, 1000 * size, 1000 * size**2, size * 0 + 500)
    return ActivationStatistics(moments, record.model, record.revision, record.dtype, ({"tokens": 1000},))


def a_repair(**changes: object) -> RepairRecord:
    """A repair that brought prose back, some of its fields changed."""
    fields: dict[str, object] = {
        "settings": {"method": "lora", "steps": 60, "learning_rate": 5e-4, "distill": 0.25},
        "corpus": corpora()["retain_train"],
        "original": "org/original",
        "tokens": 61_440,
        "parameters": 4_884_480,
        "before": scores(0.146, 0.306, (812.0, 55.5)),
        "after": scores(0.161, 0.325, (640.0, 47.0)),
        "seconds": 190.0,
    }
    return RepairRecord.model_validate(fields | changes)


def a_distillation(**changes: object) -> RobustifyRecord:
    """A distillation after which the result is as it was, some of its fields changed."""
    fields: dict[str, object] = {
        "settings": {"strength": 0.25, "noise": 0.1, "tolerance": 0.05, "tokens": 200_000},
        "corpus": corpora()["retain_train"] | {"corpus": "general + self"},
        "original": None,
        "tokens": 120_000,
        "parameters": 134_515_008,
        "before": scores(0.146, 0.306, (812.0, 55.5)),
        "after": scores(0.141, 0.304, (830.0, 56.0)),
        "seconds": 3600.0,
        "divergences": ({"tokens": 0, "nats": 3.2, "top1": 0.05}, {"tokens": 120_000, "nats": 0.04, "top1": 0.3}),
        "forward_tokens": 530_000,
    }
    return RobustifyRecord.model_validate(fields | changes)


def reading(model: str, forget: float, condition: str = "as it is", at: float = 0, seed: int = 0) -> Reading:
    """What one model knew after one dose of an attack."""
    return Reading.model_validate(
        {"model": model, "condition": condition, "at": at, "forget": scores(forget, 0.3).forget, "seed": seed}
    )


def outcome(attack: str, *readings: Reading, findings: tuple[str, ...] = (), **changes: object) -> AttackOutcome:
    """One attack, some of its fields changed."""
    fields = {"attack": attack, "readings": readings, "findings": findings, "seconds": 61.0, "stopped": False, "error": None}
    return AttackOutcome.model_validate(fields | changes)


def an_attack(*outcomes: AttackOutcome) -> AttackRecord:
    """The original knows 60%, the unlearned model 10%, random masks 50% and 54%."""
    base = [("unlearned", 0.1, 0), ("original", 0.6, 0), ("random mask", 0.5, 0), ("random mask", 0.54, 1)]
    return AttackRecord(
        settings={"seeds": 2, "samples": 8, "block_size": 32, "steps": 3, "step_tokens": 256, "method": "lora"},
        original="org/original",
        gold=None,
        corpus={"corpus": "code", "tokens": 512},
        base=tuple(reading(who, top1, seed=seed) for who, top1, seed in base),
        outcomes=outcomes,
        device="cpu",
        date="2026-11-22",
        seconds=75.0,
    )
