"""Real Trainer runs on tiny models, for the tests of callbacks."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments


def examples(rows: int = 24, length: int = 12, seed: int = 2) -> list[dict[str, Tensor]]:
    """Random blocks, ready for a Trainer."""
    ids = torch.randint(256, (rows, length), generator=torch.Generator().manual_seed(seed))
    return [{"input_ids": row, "labels": row} for row in ids]


def a_trainer(model: nn.Module, folder: Path, *callbacks: Any, data: list | None = None, **settings: Any) -> Trainer:
    """A Trainer on the CPU that says nothing and saves nothing, unless told otherwise."""
    defaults: dict[str, Any] = {
        "use_cpu": True,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(output_dir=str(folder), **defaults | settings)
    return Trainer(model, arguments, train_dataset=examples() if data is None else data, callbacks=list(callbacks))
