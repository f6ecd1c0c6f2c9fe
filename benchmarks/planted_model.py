"""A small Llama that knows two languages, one of them in neurons that are known: the ground truth of `planted.py`.

Every weight learns from one language alone. Those of the planted neurons (the column that reads a neuron, and the rows that
compute it) get the gradient of the second language, and all other weights that of the first: gradient routing (Cloud et al.
2024, arXiv:2410.04332), weight by weight. In half of the steps the planted neurons are silent while the first language is
read, so that it comes to need none of them. The gold model is trained in the same way, without the second language.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.corpora import Corpus, Part
from hf_untangle.masks.apply import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import zeros_of

VOCABULARY = 24
"""Tokens that the model knows."""
LENGTH = 32
"""Tokens in a block."""
GRAMMATICAL = 0.8
"""Probability that the next token is the one that the language asks for; otherwise it is any word."""
BATCH = 32
"""Blocks of each language in a step."""


@dataclass(frozen=True)
class Language:
    """A regular grammar: which words there are, and which of them follows which."""

    words: Int[Tensor, " word"]
    follower: Int[Tensor, " token"]
    """The token that follows each token."""

    def text(self, blocks: int, seed: int) -> Int[Tensor, "block position"]:
        """Write blocks of it: each token is the follower of the one before, or any word."""
        generator = torch.Generator().manual_seed(seed)
        ids = self.words[torch.randint(len(self.words), (blocks, LENGTH), generator=generator)]
        follows = torch.rand(blocks, LENGTH, generator=generator) < GRAMMATICAL
        for position in range(1, LENGTH):
            ids[:, position] = torch.where(follows[:, position], self.follower[ids[:, position - 1]], ids[:, position])
        return ids


def languages(seed: int) -> tuple[Language, Language]:
    """Two languages of 20 words: 8 words have the same follower in both, 8 another one, and 4 are of one language alone.

    So a model of the first language predicts some of the second without having seen it, as one of prose does of code.
    """
    generator = torch.Generator().manual_seed(seed)
    common, contested, own, other = torch.randperm(VOCABULARY, generator=generator).split([8, 8, 4, 4])

    def language(words: Tensor) -> Language:
        follower = torch.arange(VOCABULARY)
        follower[common] = common.roll(-1)
        rest = torch.cat([contested, words])[torch.randperm(12, generator=generator)]
        follower[rest] = rest.roll(-1)
        return Language(torch.cat([common, rest]), follower)

    return language(own), language(other)


def as_blocks(ids: Int[Tensor, "block position"], name: str, part: Part) -> TokenBlocks:
    """The tokens in the form that statistics and metrics read."""
    everywhere = torch.ones_like(ids, dtype=torch.bool)
    made = Corpus(name, "strings", "made by benchmarks/planted_model.py", "Apache-2.0", lambda: iter(()))
    return TokenBlocks(ids, everywhere, everywhere, made, part, documents=len(ids))


def small_llama(seed: int, width: int = 64, layers: int = 2) -> LlamaForCausalLM:
    """A Llama with random weights, and as many value heads as query heads, so that a row serves one neuron."""
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.name_or_path = f"planted-{seed}"
    return model.eval()


def planted_mask(groups: tuple[NeuronGroup, ...], share: float, seed: int) -> NeuronMask:
    """Draw the neurons that the second language is to live in: a share of every group. The mask removes exactly those."""
    generator = torch.Generator().manual_seed(seed)
    everything = NeuronMask.keep_all(groups, f"planted-{seed}")
    kept = {name: torch.randperm(len(one), generator=generator) >= round(share * len(one)) for name, one in everything.items()}
    return everything.with_kept(kept)


def train_(
    model: LlamaForCausalLM,
    mask: NeuronMask,
    first: Language,
    second: Language | None,
    *,
    steps: int,
    rate: float = 3e-3,
    seed: int = 0,
) -> None:
    """Train a model on the first language everywhere but in the planted neurons, and on the second there alone.

    Without a second language the planted neurons learn nothing: that makes the gold model. Its text of the first is the same.
    """
    parameters = dict(model.named_parameters())
    of_second = planted_entries(model, mask)
    optimizer = torch.optim.AdamW(parameters.values(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
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


def planted_model(
    seed: int, *, steps: int, share: float = 0.125, width: int = 64, gold: bool = False
) -> tuple[LlamaForCausalLM, tuple[NeuronGroup, ...], NeuronMask]:
    """Make a model of both languages, or its gold model of the first alone, with the mask that removes the planted neurons."""
    model = small_llama(seed, width)
    groups = neuron_groups(model)
    mask = planted_mask(groups, share, seed)
    first, second = languages(seed)
    train_(model, mask, first, None if gold else second, steps=steps, seed=seed)
    return model, groups, mask


def planted_entries(model: LlamaForCausalLM, mask: NeuronMask) -> dict[str, Bool[Tensor, "..."]]:
    """Which entries of each parameter belong to planted neurons."""
    entries = {name: torch.zeros_like(parameter, dtype=torch.bool) for name, parameter in model.named_parameters()}
    for name, index in zeros_of(model, mask, neuron_groups(model)):
        entries[name][index] = True
    return entries


def _gradients(model: LlamaForCausalLM, ids: Int[Tensor, "block position"]) -> tuple[Tensor, ...]:
    """The gradient of the next-token loss at every parameter."""
    return torch.autograd.grad(model(input_ids=ids, labels=ids, use_cache=False).loss, list(model.parameters()))
