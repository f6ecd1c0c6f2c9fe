"""The two fine-tuned models of the benchmark of facts, original and gold, which are trained once and then kept in the cache."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Unpack

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.bench.facts_config import FactsBenchConfig
from hf_untangle.bench.facts_training import train_on_answers_
from hf_untangle.by_name import Loading
from hf_untangle.data.answers import answer_blocks
from hf_untangle.data.batches import TokenBlocks
from hf_untangle.data.facts.invented import Fact, Facts
from hf_untangle.folders import MARKER, cache_folder, recover, whole_folder
from hf_untangle.models import revision_of
from hf_untangle.statistics.fingerprint import weights_fingerprint

logger = logging.getLogger("hf_untangle")

Tuned = Literal["original", "gold"]
"""`original` has learnt all facts, `gold` all but those to forget."""
TRAINING = ("seed", "forget", "retain", "neighbors", "unseen", "epochs", "learning_rate", "batch_size")
"""Settings that a fine-tuned model depends on."""


@dataclass(frozen=True)
class Base:
    """The model that everything begins with."""

    name: str
    """What `load` takes."""
    known_as: str
    """What records call it."""
    revision: str | None
    weights: str
    """Fingerprint of its weights."""
    how: Loading = field(default_factory=Loading)
    """How `load` takes it."""

    @classmethod
    def of(cls, name: str, **how: Unpack[Loading]) -> "Base":
        """Load a model once, to know which one it is.

        Args:
            name: An embedded model, a folder, or a Hub id.
            **how: `device_map`, `revision` and `trust_remote_code`, as in `load`.

        Returns:
            What tells it from others.
        """
        model, _ = models.load(name, dtype=torch.float32, **how)
        return cls(name, str(model.name_or_path), revision_of(model), weights_fingerprint(model), how)

    def key(self, config: FactsBenchConfig, fields: Sequence[str] | None = None) -> str:
        """Name what follows from this model and some settings.

        Args:
            config: The settings.
            fields: Which of them count; all of them when None.

        Returns:
            16 hexadecimal digits.
        """
        settings = config.model_dump(mode="json", include=None if fields is None else set(fields))
        whole = {"weights": self.weights, "version": version("hf-untangle"), **settings}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


def tuned(which: Tuned, base: Base, facts: Facts, config: FactsBenchConfig, *, progress: bool) -> Path:
    """Find a fine-tuned model in the cache, or train it.

    Args:
        which: The original, or gold.
        base: What it begins with.
        facts: All facts.
        config: The settings.
        progress: Whether to show a progress bar.

    Returns:
        A folder that plain `from_pretrained` loads.
    """
    folder = cache_folder() / "bench" / f"facts-{which}-{base.key(config, TRAINING)}"
    recover(folder)
    if (folder / MARKER).exists():
        return folder
    model, tokenizer = models.load(base.name, dtype=torch.float32, **base.how)
    rows = facts.known if which == "original" else facts.gold
    blocks = fact_blocks(rows, tokenizer)
    steps = config.epochs * -(-len(rows) // config.batch_size)
    logger.info("Fine-tuning the %s model on %d questions (once, into %s).", which, len(rows), folder)
    pace = {"steps": steps, "learning_rate": config.learning_rate, "batch_size": config.batch_size, "seed": config.seed}
    train_on_answers_(model, blocks, **pace, what=f"{which} model", progress=progress)
    with whole_folder(folder) as draft:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        (draft / MARKER).write_text(json.dumps({"benchmark": "facts", "model": which, **config.model_dump(mode="json")}) + "\n")
    return folder


def loaded(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a fine-tuned model in float32.

    Args:
        folder: What `tuned` gave.

    Returns:
        The model in evaluation mode, and its tokenizer.
    """
    return models.load(str(folder), dtype=torch.float32)


def fact_blocks(facts: Sequence[Fact], tokenizer: PreTrainedTokenizerBase) -> TokenBlocks:
    """Make training rows of questions.

    Args:
        facts: What is asked.
        tokenizer: The tokenizer of the model.

    Returns:
        A block for each, of which the answer is predicted.
    """
    prompts, answers = ([fact[column] for fact in facts] for column in ("question", "answer"))
    return answer_blocks(prompts, answers, tokenizer, "facts")
