"""A model whose neurons have scores: all that a choice is made from."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.configs.prune import PruneConfig
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.importance.observations import Neurons
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask


@dataclass(frozen=True, eq=False)
class ScoredModel:
    """A model, a text, and what every neuron is worth on it."""

    model: PreTrainedModel
    groups: tuple[NeuronGroup, ...]
    everything: NeuronMask
    """A mask that keeps all neurons."""
    importance: dict[str, Neurons]
    """What each neuron is worth, by group."""
    blocks: TokenBlocks
    config: PruneConfig
    progress: bool

    @property
    def few(self) -> TokenBlocks:
        """The blocks that layers and layouts are compared on."""
        return self.blocks.first(max(1, self.config.search_tokens // self.config.block_size))

    @property
    def how(self) -> dict[str, Any]:
        """How passes are run."""
        return {"batch_size": self.config.batch_size, "progress": self.progress}

    def loss(self, mask: NeuronMask) -> float:
        """Measure what is lost with a mask.

        Args:
            mask: Which neurons stay.

        Returns:
            The mean loss of a token on these few blocks, in nats.
        """
        with masked(self.model, mask, constants={}):
            return next_token_metrics(self.model, self.few, batch_size=self.config.batch_size, progress=False).loss
