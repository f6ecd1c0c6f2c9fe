"""A small Llama that knows two languages, one of them in known neurons: the ground truth for importances.

Every weight learns from one language alone. Those of the planted neurons (the column that reads a neuron, and the rows that
compute it) get the gradient of the second language, and all other weights that of the first: gradient routing (Cloud et al.
2024, arXiv:2410.04332), weight by weight. In half of the steps the planted neurons are silent while the first language is
read, so that it comes to need no member of it. The gold model is trained in the same way, without the second language.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.display import fields_repr
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of
from hf_untangle.papers.planted.languages import LENGTH, VOCABULARY, Language, languages
from hf_untangle.randomness import random_state_kept

BATCH = 32
"""Blocks of each language in a step."""
LEARNING_RATE = 3e-3


@checked_calls
@dataclass(frozen=True, eq=False)
class Planted:
    """A trained model, and the neurons that its second language lives in."""

    model: LlamaForCausalLM
    groups: tuple[NeuronGroup, ...]
    mask: NeuronMask
    """Removes exactly the planted neurons."""
    __repr__ = fields_repr


@checked_arguments
def planted_model(seed: int, *, steps: int, share: float = 0.125, width: int = 64, gold: bool = False) -> Planted:
    """Train a model of both languages, or its gold model of the first alone.

    Args:
        seed: For the languages, the initial weights, the planted neurons and the text.
        steps: Updates of the weights.
        share: Of the neurons of every group, which are planted.
        width: Of the residual stream.
        gold: Whether to leave the second language out, so that the planted neurons learn nothing.

    Returns:
        The model, with the mask that removes the planted neurons.
    """
    model = small_llama(seed, width)
    groups = neuron_groups(model)
    mask = planted_mask(groups, share, seed)
    first, second = languages(seed)
    _train_(model, mask, first, None if gold else second, steps, seed)
    return Planted(model, groups, mask)


def small_llama(seed: int, width: int = 64, layers: int = 2) -> LlamaForCausalLM:
    """Make a Llama with random weights, and as many value heads as query heads, so that a row serves one neuron.

    Args:
        seed: For the weights.
        width: Of the residual stream; FFNs are four times as wide.
        layers: How many.

    Returns:
        The model, in evaluation mode.
    """
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
    )
    with random_state_kept():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.name_or_path = f"planted-{seed}"
    return model.eval()


def planted_mask(groups: tuple[NeuronGroup, ...], share: float, seed: int) -> NeuronMask:
    """Draw the neurons that the second language is to live in.

    Args:
        groups: The neuron groups of the model.
        share: Of every group.
        seed: For the draw.

    Returns:
        The mask that removes exactly those.
    """
    generator = torch.Generator().manual_seed(seed)
    everything = NeuronMask.keep_all(groups, f"planted-{seed}")
    kept = {name: torch.randperm(len(one), generator=generator) >= round(share * len(one)) for name, one in everything.items()}
    return everything.with_kept(kept)


def planted_entries(model: LlamaForCausalLM, mask: NeuronMask) -> dict[str, Bool[Tensor, "..."]]:
    """Tell which entries of each parameter belong to planted neurons.

    Args:
        model: The model.
        mask: Removes the planted neurons.

    Returns:
        A boolean tensor per parameter, by name.
    """
    entries = {name: torch.zeros_like(parameter, dtype=torch.bool) for name, parameter in model.named_parameters()}
    for name, index in zeros_of(model, mask, neuron_groups(model)):
        entries[name][index] = True
    return entries


def _train_(model: LlamaForCausalLM, mask: NeuronMask, first: Language, second: Language | None, steps: int, seed: int) -> None:
    """Train on the first language everywhere but in the planted neurons, and on the second, if there is one, there alone."""
    parameters = dict(model.named_parameters())
    of_second = planted_entries(model, mask)
    optimizer = torch.optim.AdamW(parameters.values(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        batches = [
            one.text(BATCH, seed=2 * (seed * steps + step) + n) for n, one in enumerate((first, second)) if one is not None
        ]
        with masked(model, mask) if step % 2 else nullcontext():
            gradients = [_gradients(model, batches[0])]
        gradients += [_gradients(model, batch) for batch in batches[1:]]
        for number, (name, parameter) in enumerate(parameters.items()):
            routed = gradients[1][number] if second is not None else torch.zeros_like(parameter)
            parameter.grad = torch.where(of_second[name], routed, gradients[0][number])
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def _gradients(model: LlamaForCausalLM, ids: Int[Tensor, "block position"]) -> tuple[Tensor, ...]:
    """The gradient of the next-token loss at every parameter."""
    return torch.autograd.grad(model(input_ids=ids, labels=ids, use_cache=False).loss, list(model.parameters()))
