"""Draw the pictures of translation in the documentation: linear regions of a classifier, and a small KAN.

    python benchmarks/translation_pictures.py

It writes docs/translation-regions.png and docs/translation-kan.png, in a few seconds, and prints what they show.
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from hf_untangle.translation.digits import digits_network
from hf_untangle.translation.kan.pictures import plot_network
from hf_untangle.translation.kan.splines import random_kan_layer
from hf_untangle.translation.shallow.enumeration import enumerate_regions
from hf_untangle.translation.shallow.region_maps import plot_regions

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    regions_of_digits()
    kan_of_a_product()


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


def kan_of_a_product() -> None:
    """A KAN 2-2-1 that learned x y, which is ((x + y)^2 - (x - y)^2) / 4: lines below, parabolas above."""
    x = 4 * torch.rand(2000, 2) - 2
    y = x.prod(1, keepdim=True)
    kan = nn.Sequential(random_kan_layer(2, 2, torch.linspace(-2, 2, 9)), random_kan_layer(2, 1, torch.linspace(-3, 3, 13)))
    optimizer = torch.optim.Adam(kan.parameters(), lr=0.02)
    for step in range(2500):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 2500)
        optimizer.zero_grad()
        loss = (kan(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    figure = plot_network(kan, x)
    figure.savefig(DOCS / "translation-kan.png", dpi=130)
    print(f"KAN 2-2-1 on x y: mean squared error {loss.item():.1e} (variance {y.var().item():.2f})")


if __name__ == "__main__":
    main()
