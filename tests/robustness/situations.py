"""Calls that may be interrupted: each makes a model of its own, and says what works on it."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from toy_languages import NUMBERS, TOY_CONFIG, WORDS
from transformers import PreTrainedTokenizerBase

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.density.sweep import sweep
from hf_untangle.evaluation.evaluate import evaluate
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.dampening import dampen_
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.rotation import rotate_heads_
from hf_untangle.masks.select import random_like
from hf_untangle.masks.undo_removal import cut_out_, put_back_
from hf_untangle.prune import prune
from hf_untangle.results.unlearned import UnlearnResult
from hf_untangle.statistics.collect import collect
from hf_untangle.translation.kan.convert import to_kan_, to_relu_
from hf_untangle.unlearn import unlearn

SIZES = {"tokens": 256, "evaluation_tokens": 128, "block_size": 32, "batch_size": 8}
TRAINING = {"steps": 2, "step_tokens": 64, "block_size": 32, "batch_size": 2}


@dataclass(frozen=True)
class Situation:
    """A model, and a call that works on it."""

    model: nn.Module
    call: Callable[[], object]


@dataclass(frozen=True)
class Material:
    """What situations are made of."""

    tiny_model: Callable[..., nn.Module]
    taught: nn.Module
    unlearned: UnlearnResult
    tokenizer: PreTrainedTokenizerBase
    blocks: TokenBlocks

    def result_of(self, model: Any) -> UnlearnResult:
        """The finished result, with another model."""
        copy = deepcopy(self.unlearned)
        copy.model = model
        return copy


def half_of(model: Any) -> tuple[NeuronMask, Any]:
    """A mask that removes half of all neurons, drawn at random, and the groups that it is of."""
    groups = neuron_groups(model)
    whole = NeuronMask.keep_all(groups, str(model.name_or_path))
    half = whole.with_kept({name: torch.arange(len(kept)) % 2 == 0 for name, kept in whole.items()})
    return random_like(half, 0), groups


def removal(material: Material) -> Situation:
    model = material.tiny_model("llama")
    return Situation(model, partial(remove_, model, *half_of(model)))


def removal_with_constants(material: Material) -> Situation:
    model = material.tiny_model("llama")
    mask, groups = half_of(model)
    return Situation(model, partial(remove_, model, mask, groups, constants={one.name: torch.ones(one.size) for one in groups}))


def kept_removal(material: Material) -> Situation:
    model = material.tiny_model("opt")
    return Situation(model, partial(cut_out_, model, *half_of(model)))


def restoration(material: Material) -> Situation:
    model = material.tiny_model("llama")
    return Situation(model, partial(put_back_, model, cut_out_(model, *half_of(model))))


def dampening(material: Material) -> Situation:
    model = material.tiny_model("gpt2")
    groups = neuron_groups(model)
    return Situation(model, partial(dampen_, model, {one.name: torch.full((one.size,), 0.5) for one in groups}, groups))


def rotation(material: Material) -> Situation:
    model = material.tiny_model("llama")
    return Situation(model, partial(rotate_heads_, model, neuron_groups(model)))


def location(material: Material) -> Situation:
    model = material.tiny_model("gpt_neox").train()
    return Situation(model, partial(neuron_groups, model))


def collection(material: Material) -> Situation:
    model = material.tiny_model("llama")
    return Situation(model, partial(collect, model, material.blocks, progress=False))


def masked_judgement(material: Material) -> Situation:
    model = material.tiny_model("llama").train()
    mask, _ = half_of(model)

    def judge() -> object:
        with masked(model, mask):
            return next_token_metrics(model, material.blocks, progress=False)

    return Situation(model, judge)


def compaction(material: Material) -> Situation:
    model = deepcopy(material.unlearned.model)
    return Situation(model, partial(compact, model, layout="uniform"))


def evaluation(material: Material) -> Situation:
    model = deepcopy(material.taught)
    settings = {"tokens": 128, "block_size": 32, "prompts": 2, "progress": False}
    return Situation(model, partial(evaluate, model, WORDS, tokenizer=material.tokenizer, **settings))


def translation(material: Material) -> Situation:
    model = material.tiny_model("opt")
    return Situation(model, partial(to_kan_, model))


def translation_back(material: Material) -> Situation:
    model = to_kan_(material.tiny_model("opt"))
    return Situation(model, partial(to_relu_, model))


def density(material: Material) -> Situation:
    model = material.tiny_model("llama")

    def judge(network: Any) -> float:
        return float(network(torch.arange(8)[None]).logits.sum())

    return Situation(model, partial(sweep, model, judge, grid=(0.5, 1.0), refine=0.0, progress=False))


def unlearning(material: Material) -> Situation:
    model = deepcopy(material.taught)
    settings = {"config": TOY_CONFIG, "steps": 1, "tokenizer": material.tokenizer, "progress": False}
    return Situation(model, partial(unlearn, model, NUMBERS, WORDS, **SIZES, **settings))


def pruning(material: Material) -> Situation:
    model = deepcopy(material.taught)
    return Situation(model, partial(prune, model, WORDS, tokenizer=material.tokenizer, progress=False, **SIZES))


def repair_by_lora(material: Material) -> Situation:
    model = deepcopy(material.unlearned.model)
    return Situation(model, partial(material.result_of(model).repair, progress=False, **TRAINING))


def repair_of_all_weights(material: Material) -> Situation:
    model = deepcopy(material.unlearned.model)
    return Situation(model, partial(material.result_of(model).repair, method="full", progress=False, **TRAINING))


def attack(material: Material) -> Situation:
    model = deepcopy(material.unlearned.model)
    settings = TRAINING | {"attacks": ["relearn", "logit-lens"], "seeds": 1, "samples": 2, "evaluation_tokens": 64}
    original = deepcopy(material.taught)
    return Situation(model, partial(material.result_of(model).attack, original=original, progress=False, **settings))


CHEAP = (removal, removal_with_constants, restoration, rotation, masked_judgement, translation)
SITUATIONS = (
    *CHEAP,
    *(kept_removal, dampening, location, collection, compaction, evaluation, translation_back, density),
    *(unlearning, pruning, repair_by_lora, repair_of_all_weights, attack),
)


def weights_of(state: dict[str, Any]) -> dict[str, Tensor]:
    """Those entries of a state that are weights."""
    return {name: value for name, value in state.items() if name.startswith("weight")}
