"""A small vision transformer that knows the handwritten digits, trained here in seconds, for trials without network."""

from pathlib import Path

import torch
from torch.nn import functional as F  # noqa: N812
from transformers import ViTConfig, ViTForImageClassification

from hf_untangle.data.digits import digits
from hf_untangle.distributed import in_main
from hf_untangle.folders import MARKER, cache_folder, whole_folder
from hf_untangle.progress import track
from hf_untangle.randomness import random_state_kept

NAME = "digits-vit"
"""What recipes and commands call it."""
STEPS, BATCH_SIZE, LEARNING_RATE, NOISE = 600, 64, 1e-3, 0.2


def digits_vit(*, steps: int = STEPS, progress: bool = True) -> ViTForImageClassification:
    """Load the classifier, training it the first time: 8 x 8 pixels in patches of 2 x 2, four layers of width 64.

    Args:
        steps: Steps of training.
        progress: Whether to show a progress bar while it is trained.

    Returns:
        The classifier, in evaluation mode.
    """
    folder = cache_folder() / f"{NAME}-{steps}"
    in_main(lambda: None if (folder / MARKER).exists() else _train_into(folder, steps, progress))
    model = ViTForImageClassification.from_pretrained(folder)
    model.name_or_path = NAME
    return model.eval()


def _train_into(folder: Path, steps: int, progress: bool) -> None:
    """Train, and write a checkpoint."""
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=64,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        initializer_range=0.1,  # so small a network hardly learns from the usual 0.02
    )
    config.num_labels = 10
    images, labels = digits().train.planes()
    with random_state_kept():
        torch.manual_seed(0)
        model = ViTForImageClassification(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        with track(f"training {NAME}", steps, unit="step", progress=progress) as bar:
            for _ in range(steps):
                rows = torch.randint(len(images), (BATCH_SIZE,))
                pixels = images[rows] * 2 - 1
                loss = F.cross_entropy(model(pixels + NOISE * torch.randn_like(pixels)).logits, labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        (draft / MARKER).write_text(f'{{"model": "{NAME}", "steps": {steps}}}\n')
