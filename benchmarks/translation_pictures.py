"""Draw the pictures of translation in the documentation: linear regions of a classifier, and a small KAN.

    python benchmarks/translation_pictures.py

It writes docs/translation-regions.png and docs/translation-kan.png, in a few seconds, and prints what they show.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from hf_untangle.translation.digits_network import digits_network
from hf_untangle.translation.kan.pictures import plot_network
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.three_layers.enumeration import enumerate_regions
from hf_untangle.translation.three_layers.region_maps import plot_regions

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    regions_of_digits()
    kan_of_a_formula()


def regions_of_digits() -> None:
    """Zeros, ones and fours on their two largest principal components, over the regions of a 2-8-8-10 network."""
    digits = digits_network()
    regions = enumerate_regions(digits.network, (-3, 3))
    shown = torch.isin(digits.labels, torch.tensor([0, 1, 4]))
    figure = Figure(figsize=(5, 5), layout="constrained")
    names = ("first principal component", "second principal component")
    plot_regions(regions, digits.x[shown], digits.labels[shown], names=names, axes=figure.subplots())
    figure.savefig(DOCS / "translation-regions.png", dpi=110)
    print(f"2-8-8-10 on digits: test accuracy {digits.accuracy:.1%}, {len(regions)} regions")


def kan_of_a_formula() -> None:
    """exp(sin(pi x) + y^2) as a KAN 2-1-1: every function of one variable is interpolated between 13 knots."""
    inner, outer = (torch.linspace(low, high, 13, dtype=torch.float64) for low, high in ((-1, 1), (-1, 2)))
    below = interpolated(inner, torch.stack([torch.sin(torch.pi * inner), inner.square()]))
    kan = nn.Sequential(below, interpolated(outer, outer.exp()[None]))
    x = 2 * torch.rand(2000, 2, dtype=torch.float64) - 1
    y = (torch.sin(torch.pi * x[:, 0]) + x[:, 1].square()).exp()
    plot_network(kan, x).savefig(DOCS / "translation-kan.png", dpi=110)
    print(f"KAN 2-1-1: largest error {(kan(x)[:, 0] - y).abs().max().item():.2f} where values reach {y.max().item():.1f}")


def interpolated(knots: torch.Tensor, values: torch.Tensor) -> PiecewiseLinearKANLayer:
    """A layer with one output whose edges have given values at common knots."""
    slopes = values.diff() / knots.diff()
    return PiecewiseLinearKANLayer(knots.expand(1, len(values), -1), values[None], slopes[None, :, 0], slopes[None, :, -1])


if __name__ == "__main__":
    main()
