"""The k-contrast model: one side sees an item and sends bits, the other must tell which of k items was meant.

After "Low-Entropy Latent Variables Hurt Out-of-Distribution Performance" and the authors' public code.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_untangle.papers.contrast.channel import BitChannel
from hf_untangle.papers.contrast.configuration import ContrastConfig
from hf_untangle.papers.contrast.encoders import ENCODERS, Items


class ContrastModel(PreTrainedModel):
    """Answer encoder, channel, problem encoder and solver."""

    config_class = ContrastConfig
    main_input_name = "problem"

    def __init__(self, config: ContrastConfig) -> None:
        """Build the model with random weights.

        Args:
            config: Sizes.
        """
        super().__init__(config)
        encoder = ENCODERS[config.modality]
        self.answer_encoder = encoder(config, config.bits)
        self.problem_encoder = encoder(config, config.embedding_size)
        self.channel = BitChannel(config.noise, config.temperature)
        self.entrance = nn.Linear(config.embedding_size + config.bits, config.hidden_size)
        layer = nn.TransformerEncoderLayer(
            config.hidden_size, config.num_attention_heads, config.intermediate_size, config.dropout, batch_first=True
        )
        self.solver = nn.TransformerEncoder(layer, config.num_hidden_layers, enable_nested_tensor=False)
        self.output = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Keep the weights that the layers of torch begin with."""

    def message(self, items: Items) -> Float[Tensor, "item bit"]:
        """What the answer encoder sends of some items: soft bits in training, 0 and 1 otherwise.

        Args:
            items: The items.

        Returns:
            One message an item.
        """
        return self.channel(self.answer_encoder(items))

    def solve(
        self, message: Float[Tensor, "problem bit"], features: Float[Tensor, "problem choice feature"]
    ) -> Float[Tensor, "problem choice"]:
        """Score every choice by how well it goes with the message.

        Args:
            message: What arrived.
            features: The choices, encoded by the problem encoder.

        Returns:
            Logits.
        """
        told = message[:, None].expand(-1, features.shape[1], -1)
        tokens = F.relu(self.entrance(torch.cat([features, told], -1)))
        return self.output(self.solver(tokens)).squeeze(-1)

    def forward(
        self,
        answer: UInt8[Tensor, "problem ..."],
        problem: UInt8[Tensor, "problem choice ..."],
        labels: Int[Tensor, " problem"] | None = None,
    ) -> SequenceClassifierOutput:
        """Send every answer and find it among the choices.

        Args:
            answer: The item that is meant.
            problem: k items, one of which is meant.
            labels: Which one.

        Returns:
            Logits over the choices, and the mean cross-entropy when there are labels.
        """
        features = self.problem_encoder(problem.flatten(0, 1)).view(*problem.shape[:2], -1)
        logits = self.solve(self.message(answer), features)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)  # pyright: ignore[reportArgumentType]
