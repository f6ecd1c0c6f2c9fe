"""Training a classifier of images, the same way at every width."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.arguments import checked_calls
from hf_untangle.errors import ConfigError
from hf_untangle.papers.image_sets import LabeledImages
from hf_untangle.papers.networks import NETWORKS
from hf_untangle.randomness import random_state_kept

BATCH = 1024
"""Images in one forward pass of an evaluation."""


@checked_calls
@dataclass(frozen=True)
class Training:
    """How a classifier is trained: AdamW with a constant learning rate."""

    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    """Decoupled, times the learning rate at every step."""
    batch_size: int = 64
    initial_scale: float = 1.0
    """What PyTorch's initial parameters are multiplied by."""

    def __post_init__(self) -> None:
        """Refuse a training that trains nothing."""
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0 or not self.initial_scale > 0:
            raise ConfigError(f"A training needs positive epochs, batch_size, learning_rate and initial_scale, got {self}.")


def trained_classifier(name: str, width: int, images: LabeledImages, training: Training, seed: int) -> nn.Module:
    """Train a classifier from the beginning.

    Args:
        name: A key of `NETWORKS`.
        width: Its width.
        images: What it learns.
        training: How.
        seed: For its initial weights and the order of the images; the caller's random state is left alone.

    Returns:
        The trained network, in evaluation mode.
    """
    with random_state_kept():
        torch.manual_seed(seed)
        network = NETWORKS[name](width, images.shape, images.classes).to(images.train_x.device)
        for parameter in network.parameters():
            parameter.data *= training.initial_scale
        with torch.enable_grad():
            _fit_(network, images, training)
    return network.eval()


def _fit_(network: nn.Module, images: LabeledImages, training: Training) -> None:
    """Train a network in place."""
    optimizer = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    for _ in range(training.epochs):
        for batch in torch.randperm(len(images.train_x)).split(training.batch_size):
            loss = F.cross_entropy(network(images.train_x[batch]), images.train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(network: nn.Module, images: LabeledImages) -> float:
    """Measure the share of test images whose class is the largest output.

    Args:
        network: A classifier.
        images: The images.

    Returns:
        From 0 to 1.
    """
    with evaluation_mode(network):
        outputs = torch.cat([network(some) for some in images.test_x.split(BATCH)])
    return float((outputs.argmax(-1) == images.test_y).float().mean())
