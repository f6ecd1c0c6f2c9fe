"""A page about one feed-forward block: its strongest edges, and the tokens that drive them.

One HTML file without scripts and without anything from elsewhere. A card shows a neuron: the functions on its
strongest edges over the range in which the neuron lives, in front of a histogram of it, and the places in the
texts where it is most active.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from jinja2 import Environment, StrictUndefined
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import ConfigError
from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.convert import kan_layers_of
from hf_untangle.translation.kan.driving_tokens import (
    DrivingToken,
    driving_tokens,
    follow_neurons,
    neurons_on_texts,
)
from hf_untangle.translation.kan.edge_statistics import EdgeMoments
from hf_untangle.translation.kan.edges import StrongEdge, strongest_edges

WIDTH, HEIGHT, BARS = 220, 110, 40
"""The size of the drawing of a neuron, in pixels, and the number of bars of its histogram."""

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ layer }}</title>
<style>
:root { color-scheme: light dark;
  --ink: #1c2430; --paper: #fff; --line: #1f5fa8; --bar: #d5dae1; --mark: #ffe08a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #14181f; --line: #7db4f0; --bar: #343c48; --mark: #6b5410 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
section { display: flex; flex-wrap: wrap; gap: 1.5rem; border-top: 1px solid var(--bar); padding: 1rem 0 }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin: 0 0 .5rem }
ol { margin: 0; padding: 0; list-style: none; flex: 1; min-width: 20rem }
polyline { fill: none; stroke: var(--line); stroke-width: 1.5 } rect { fill: var(--bar) }
mark { background: var(--mark); color: inherit } small { opacity: .75 }
b { font-variant-numeric: tabular-nums }
</style>
</head>
<body>
<h1>{{ layer }}</h1>
<p>{{ kind }} with {{ neurons }} neurons and {{ outputs }} outputs, on {{ tokens }} tokens.
The strength of an edge is E|&phi;|, the mean absolute value of what it gives to its output.</p>
{% for card in cards %}
<section>
<div>
<h2>Neuron {{ card.neuron }}</h2>
<svg width="{{ width }}" height="{{ height }}" role="img" aria-label="Edges of neuron {{ card.neuron }}">
{% for x, y, tall in card.bars %}<rect x="{{ x }}" y="{{ y }}" width="{{ step }}" height="{{ tall }}"/>
{% endfor %}
{% for curve in card.curves %}<polyline points="{{ curve }}"/>
{% endfor %}
</svg><br>
<small>neuron before activation: {{ "%.3g"|format(card.low) }} to {{ "%.3g"|format(card.high) }}</small>
{% for edge in card.edges %}
<br><small>to output {{ edge.output }}: E|&phi;| = {{ "%.3g"|format(edge.strength) }}</small>
{% endfor %}
</div>
<ol>
{% for token in card.tokens %}
<li><b>{{ "%+.2f"|format(token.activation) }}</b> <small>{{ token.before }}</small>
<mark>{{ token.token }}</mark> <small>{{ token.behind }}</small></li>
{% endfor %}
</ol>
</section>
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Card:
    """What the page shows of one neuron."""

    neuron: int
    """The input node of the edges."""
    edges: list[StrongEdge]
    """Its edges that are among the strongest of the block."""
    tokens: list[DrivingToken]
    """Where it is most active."""
    low: float
    """The smallest preactivation on the texts."""
    high: float
    """The largest preactivation on the texts."""
    bars: list[tuple[float, float, float]]
    """The histogram of the preactivation: left, top and height of every bar, in pixels."""
    curves: list[str]
    """The functions on the edges, as points of polylines in pixels."""


@checked_arguments
@torch.no_grad()
def feed_forward_page(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    layer: str,
    edges: int = 24,
    tokens: int = 8,
) -> str:
    """Make the page of one feed-forward block.

    Args:
        model: A model after `to_kan_`.
        tokenizer: Its tokenizer.
        texts: What to run it on.
        layer: The name of the projection of the block, such as "model.decoder.layers.3.fc2".
        edges: How many of the strongest edges to show.
        tokens: How many tokens to show for each neuron.

    Returns:
        The page as HTML, to be written to a file in UTF-8.

    Raises:
        ConfigError: If the model has no KAN layer of that name.
    """
    layers = kan_layers_of(model)
    if layer not in layers:
        raise ConfigError(f"{layer!r} is no KAN layer of this model; it has {', '.join(layers) or 'none'}.")
    kan = layers[layer]
    moments = EdgeMoments(kan)
    for _, nodes in neurons_on_texts(model, tokenizer, texts, kan):
        moments.update(nodes)
    by_neuron: dict[int, list[StrongEdge]] = {}
    for edge in strongest_edges(kan, moments.result(), edges):
        by_neuron.setdefault(edge.input, []).append(edge)
    followed = follow_neurons(model, tokenizer, texts, kan, list(by_neuron))
    driving = driving_tokens(followed, kan.activation, tokenizer, tokens)
    columns = zip(by_neuron, followed.nodes.T, strict=True)
    cards = [_card(kan, by_neuron[neuron], driving[neuron], nodes) for neuron, nodes in columns]
    return (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(TEMPLATE)
        .render(
            layer=layer,
            kind=type(kan.activation).__name__,
            neurons=kan.in_features,
            outputs=kan.out_features,
            tokens=moments.tokens,
            cards=cards,
            width=WIDTH,
            height=HEIGHT,
            step=WIDTH / BARS,
        )
    )


def _card(
    layer: ActivationKANLayer,
    edges: list[StrongEdge],
    tokens: list[DrivingToken],
    nodes: Float[Tensor, " token"],
) -> Card:
    """Draw one neuron."""
    low, high = nodes.min().item(), nodes.max().item()
    x = torch.linspace(low, high, 101).to(layer.weight)
    values = torch.stack([layer.edge(edge.output, edge.input)(x) for edge in edges]).float()
    bottom, top = values.min(), values.max()
    heights = HEIGHT * (1 - (values - bottom) / (top - bottom).clamp(min=torch.finfo(values.dtype).tiny))
    counts = torch.histc(nodes.float().cpu(), BARS, low, high)
    tall = (HEIGHT * counts / counts.max()).round().tolist()
    bars = [(index * WIDTH / BARS, HEIGHT - height, height) for index, height in enumerate(tall)]
    return Card(edges[0].input, edges, tokens, low, high, bars, [_points(height) for height in heights])


def _points(heights: Float[Tensor, " point"]) -> str:
    """A curve across the drawing, as the points of a polyline."""
    step = WIDTH / (len(heights) - 1)
    return " ".join(f"{index * step:.1f},{height:.1f}" for index, height in enumerate(heights.tolist()))
