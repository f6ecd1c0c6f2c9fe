"""A saved result of unlearning as attacks need it, and as `UnlearnResult.from_pretrained` begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_untangle import models
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.errors import ConfigError
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.pruning.step import Pair
from hf_untangle.pruning.tasks import read_parts
from hf_untangle.records.saved import corpus_again, read_run_record, same_tokens
from hf_untangle.records.unlearning import UnlearnRecord


@dataclass(frozen=True, eq=False)
class Saved:
    """What was saved of a model that has unlearned."""

    model: PreTrainedModel
    tokenizer: Any
    mask: NeuronMask
    """Which neurons stayed."""
    record: UnlearnRecord
    held_out: Pair
    """The test parts of both corpora, read anew."""


def read_saved(folder: Path, corpora: Mapping[str, CorpusSource] | None = None, **loading: Any) -> Saved:
    """Read a result of `unlearn`, with its test parts read anew.

    Args:
        folder: What `save_pretrained` wrote.
        corpora: The corpora of the run by their use, where they cannot be found by their name.
        **loading: Keywords of `models.load`.

    Returns:
        Model, mask, record and corpora.

    Raises:
        ConfigError: The result is of a classifier, or of another function.
        CorpusError: A corpus must be passed, or its test part is not the one that the run was measured on.
    """
    record = read_run_record(folder, UnlearnRecord)
    if record.task == "class":
        raise ConfigError("A classifier's result cannot be read back: load its model with transformers, and its mask alone.")
    kind = "masked-lm" if record.task == "masked token" else "causal-lm"
    forget, retain = (corpus_again(record.corpora, use, (corpora or {}).get(use), folder) for use in ("forget", "retain"))
    model, tokenizer = models.load(str(folder), kind=kind, **loading)
    held_out = read_parts(record.task, (forget, retain), tokenizer, "test", record.config)
    for use, blocks in (("forget", held_out.forget), ("retain", held_out.retain)):
        same_tokens(blocks, record.corpora[f"{use}_test"], use)
    return Saved(model, tokenizer, NeuronMask.load(folder / FILE), record, held_out)
