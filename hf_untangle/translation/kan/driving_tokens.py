"""Which tokens drive the neurons of a feed-forward block: where in texts each of them is most active."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.errors import StatisticsError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer

TOKENS_BEFORE, TOKENS_BEHIND = 10, 5
"""How much of its text is shown around a token."""


@dataclass(frozen=True)
class DrivingToken:
    """A token at which a neuron is very active, in its context."""

    before: str
    """The text in front of the token."""
    token: str
    """The token."""
    behind: str
    """The text behind the token."""
    activation: float
    """The neuron behind its activation function: what the weights of its edges multiply."""


@dataclass(frozen=True)
class FollowedNeurons:
    """Some neurons of a block at every token of some texts."""

    neurons: tuple[int, ...]
    """Which neurons, as input nodes of the projection."""
    nodes: Float[Tensor, "token neuron"]
    """The neurons before their activation function."""
    places: list[tuple[list[int], int]]
    """Where each token is: the ids of its text, and its position in them."""


def follow_neurons(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layer: ActivationKANLayer,
    neurons: Sequence[int],
) -> FollowedNeurons:
    """Run a model on texts and keep a few neurons at every token.

    Args:
        model: A model after `to_kan_`.
        tokenizer: Its tokenizer.
        texts: The texts; special tokens do not count.
        layer: The projection of a feed-forward block of the model.
        neurons: Which of its input nodes to keep.

    Returns:
        The neurons, and where their tokens are.
    """
    places: list[tuple[list[int], int]] = []
    nodes: list[Tensor] = []
    for ids, all_nodes in neurons_on_texts(model, tokenizer, texts, layer):
        places += [(ids, position) for position in range(len(ids))]
        nodes.append(all_nodes[:, list(neurons)])
    return FollowedNeurons(tuple(neurons), torch.cat(nodes), places)


@torch.no_grad()
def driving_tokens(
    followed: FollowedNeurons, activation: nn.Module, tokenizer: PreTrainedTokenizerBase, count: int = 8
) -> dict[int, list[DrivingToken]]:
    """Find the tokens at which neurons are most active, by the size of their activation.

    Args:
        followed: The neurons.
        activation: The activation function of the block.
        tokenizer: What turns ids back into text.
        count: How many tokens to list for each neuron.

    Returns:
        For every neuron its tokens, the most active first.
    """
    active = activation(followed.nodes.clone()).float()
    top = active.abs().topk(min(count, len(active)), dim=0).indices.T.tolist()
    return {
        neuron: [_in_context(tokenizer, followed.places[t], active[t, column].item()) for t in top[column]]
        for column, neuron in enumerate(followed.neurons)
    }


@torch.no_grad()
def neurons_on_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layer: ActivationKANLayer,
    max_tokens: int = 512,
) -> Iterator[tuple[list[int], Float[Tensor, "token input"]]]:
    """Run a model on one text after the other, and read the input nodes of one KAN layer.

    Args:
        model: The model; of an encoder-decoder only the encoder runs.
        tokenizer: Its tokenizer.
        texts: The texts.
        layer: A KAN layer of the model.
        max_tokens: How many tokens of every text are read, if the model has so many positions.

    Yields:
        The ids of the tokens of a text that are not special, and the nodes at these.

    Raises:
        StatisticsError: If the layer does not run once for every token.
    """
    longest = min(max_tokens, getattr(model.config, "max_position_embeddings", max_tokens))
    run = model.get_encoder() if model.config.is_encoder_decoder else model
    reached: list[Tensor] = []
    with evaluation_mode(model), layer.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0])):
        for text in texts:
            reached.clear()
            tokens = tokenizer(text, truncation=True, max_length=longest, return_special_tokens_mask=True)
            ids, special = tokens["input_ids"], torch.tensor(tokens["special_tokens_mask"]).bool()
            run(input_ids=torch.tensor([ids], device=model.device))
            nodes = torch.cat([x.flatten(0, -2) for x in reached]) if reached else torch.empty(0, 0)
            if len(nodes) != len(ids):
                raise StatisticsError(
                    f"A text of {len(ids)} tokens reached the layer {len(nodes)} times, not once for each. "
                    "Choose a layer that every token of a text runs through once."
                )
            kept = (~special).nonzero().flatten()
            yield [ids[place] for place in kept.tolist()], nodes[kept.to(nodes.device)]


def _in_context(tokenizer: PreTrainedTokenizerBase, place: tuple[list[int], int], activation: float) -> DrivingToken:
    """One token, and the text around it."""
    ids, position = place
    before = ids[max(0, position - TOKENS_BEFORE) : position]
    behind = ids[position + 1 : position + 1 + TOKENS_BEHIND]
    texts = [str(tokenizer.decode(part)) for part in (before, [ids[position]], behind)]
    return DrivingToken(texts[0], texts[1], texts[2], activation)
