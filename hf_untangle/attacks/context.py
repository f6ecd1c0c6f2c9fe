"""What every attack works with: the models to attack, each as a copy that it may break, and what they are measured on."""

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.attack import AttackConfig
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import Corpus, CorpusSource
from hf_untangle.evaluation.next_token import NextTokenMetrics, next_token_metrics
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.masks.select import random_like
from hf_untangle.pruning.controls import random_update
from hf_untangle.pruning.judging import judge
from hf_untangle.pruning.step import Pair
from hf_untangle.records.attacks import CONTROLS, WHO, Who
from hf_untangle.records.unlearning import Scores

Victim = tuple[Who, int, PreTrainedModel]
"""The role of an attacked model, its seed, and a copy that the attack may break."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The models, the text and the settings of one attack."""

    unlearned: PreTrainedModel
    original: PreTrainedModel
    gold: PreTrainedModel | None
    """A model that never learnt the forget corpus, where there is one."""
    mask: NeuronMask
    """Which neurons stayed."""
    groups: tuple[NeuronGroup, ...]
    tokenizer: PreTrainedTokenizerBase
    forget: TokenBlocks
    """Held-out text of the forget corpus."""
    retain: TokenBlocks
    neighbor: CorpusSource | None
    """Text near to the forget corpus, where there is some."""
    config: AttackConfig
    is_trained: bool = False
    """Whether weights were trained, and not only those of neurons removed."""
    deadline: float = float("inf")
    """When this attack must end, by `time.perf_counter`."""

    def is_late(self) -> bool:
        """Tell whether the time for this attack is over."""
        return time.perf_counter() > self.deadline

    def time_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    def victims(self) -> Iterator[Victim]:
        """Copies for an attack that draws nothing.

        Yields:
            Every model once, and a control for each seed.
        """
        yield from self.victims_of(self.config.seed)
        for role in set(self.roles) & set(CONTROLS):
            yield from (self.victim(role, seed) for seed in self.config.all_seeds[1:])

    def victims_by_seed(self) -> Iterator[Victim]:
        """Copies for an attack that draws something.

        Yields:
            Every model for each seed: all models with the first, then all with the second, so that a time limit leaves whole
            comparisons.
        """
        for seed in self.config.all_seeds:
            yield from self.victims_of(seed)

    def victims_of(self, seed: int) -> Iterator[Victim]:
        """A copy of every model, with the control of one seed.

        Args:
            seed: The seed.

        Yields:
            One model after the other.
        """
        for who in self.roles:
            yield self.victim(who, seed)

    def victim(self, role: Who, seed: int) -> Victim:
        """A copy of one model.

        Args:
            role: What the model is, one of `roles`.
            seed: Of the control, where it is one.

        Returns:
            The role, the seed, and the copy.
        """
        if role == "random mask":
            return role, seed, self._randomly_pruned(seed)
        if role == "random update":
            return role, seed, self._randomly_moved(seed)
        return role, seed, deepcopy({"unlearned": self.unlearned, "original": self.original, "gold": self.gold}[role])

    @property
    def roles(self) -> tuple[Who, ...]:
        """The models that there are, by what they are: the result first."""
        there = {
            "random mask": self.is_pruned and not self.is_trained,
            "random update": self.is_trained,
            "gold": self.gold is not None,
        }
        return tuple(who for who in WHO if there.get(who, True))

    def samples(self, corpus: Corpus, count: int) -> dict[int, TokenBlocks]:
        """Read text to learn from or to show, from the train part of a corpus.

        Args:
            corpus: The corpus.
            count: How many blocks to read for each seed.

        Returns:
            Blocks by seed; no two seeds share one, unless the corpus ends before all have some.
        """
        config = self.config
        tokens = count * config.seeds * config.block_size
        blocks = token_blocks(corpus, self.tokenizer, tokens=tokens, block_size=config.block_size, excerpt=None)
        apart = config.seeds if len(blocks.input_ids) >= config.seeds else 1
        return {seed: blocks.rows(slice(number % apart, None, apart)) for number, seed in enumerate(config.all_seeds)}

    def judge(self, model: PreTrainedModel, blocks: TokenBlocks | None = None) -> Scores:
        """Measure a model on held-out text of both corpora.

        Args:
            model: The model.
            blocks: The text to forget; held-out text of the forget corpus when None.

        Returns:
            Its scores.
        """
        forget = self.forget if blocks is None else blocks
        return judge(model, Pair(forget, self.retain), batch_size=self.config.batch_size, progress=False)

    def knows(self, model: PreTrainedModel, blocks: TokenBlocks | None = None) -> NextTokenMetrics:
        """Measure what a model knows of some text.

        Args:
            model: The model.
            blocks: The text; held-out text of the forget corpus when None.

        Returns:
            The metrics.
        """
        blocks = self.forget if blocks is None else blocks
        return next_token_metrics(model, blocks, batch_size=self.config.batch_size, progress=False)

    @property
    def is_pruned(self) -> bool:
        """Whether neurons were removed; otherwise a random mask of equal size is the original model."""
        return not all(bool(kept.all()) for kept in self.mask.values())

    def _randomly_pruned(self, seed: int) -> PreTrainedModel:
        """The original model without as many neurons of every group, chosen at random."""
        model = deepcopy(self.original)
        remove_(model, random_like(self.mask, seed), self.groups, constants={})
        return model

    def _randomly_moved(self, seed: int) -> PreTrainedModel:
        """The original model, every weight matrix of which is changed by the update of the result in a random order."""
        model, generator = deepcopy(self.original), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter, after in zip(model.parameters(), self.unlearned.parameters(), strict=True):
                parameter.copy_(random_update(parameter.cpu(), after.cpu(), generator))
        return model
