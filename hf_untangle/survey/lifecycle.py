"""The whole life of a tiny model: taught, measured, unlearned, saved, loaded, made smaller, and smaller again, also by folder.

Every step either works or is refused by an error of this package. Anything else is a fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.compaction.compact import compact
from hf_untangle.compaction.folder_to_folder import compact_folder, remove_folder
from hf_untangle.compaction.target_widths import Layout
from hf_untangle.errors import UntangleError
from hf_untangle.folders import temporary_folder
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.survey.compaction_support import LAYOUTS, narrow_mask
from hf_untangle.survey.invariants import outputs, same_tensors
from hf_untangle.survey.tiny_models import Task, tiny_model
from hf_untangle.survey.tiny_text import NUMBERS, WORDS, documents, teach_, tiny_tokenizer, token_ids
from hf_untangle.unlearn import unlearn

SETTINGS: dict[str, Any] = {
    "steps": 1,
    "controls": 0,
    "tokens": 256,
    "evaluation_tokens": 128,
    "gradient_tokens": 128,
    "block_size": 16,
    "batch_size": 8,
    "ffn_fraction": 0.15,
    "attention_fraction": 0.1,
    "retain_budget": 1.0,
    "perplexity_budget": 1e9,
}
"""One step, whatever it costs."""
ROUNDING = 1e-4
"""How far logits may differ in float32, as a share of the largest."""


@dataclass(frozen=True)
class Life:
    """What came of every step."""

    steps: dict[str, str]
    """By step: nothing where it worked, the sentence that refused it, or after `FAULT` what went wrong."""

    @property
    def faults(self) -> dict[str, str]:
        """The steps that neither worked nor were refused."""
        return {step: what for step, what in self.steps.items() if what.startswith(FAULT)}

    @property
    def unlearns(self) -> bool:
        """Whether the model unlearned and was the same once saved and loaded."""
        return self.steps.get("unlearn") == "" and self.steps.get("reload") == ""


FAULT = "fault: "
"""How the account of a step begins that neither worked nor was refused."""


def life_of(model_type: str, task: Task = "causal-lm") -> Life:
    """Lead a tiny model of a type through its whole life.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        task: What its model is for.

    Returns:
        What came of every step, up to the first without which the others mean nothing.
    """
    with temporary_folder() as folder:
        life = _Living(teach_(tiny_model(model_type, task)), folder)
        return Life(life.live())


@dataclass(eq=False)
class _Living:
    """A taught model, and a folder for its checkpoints."""

    model: PreTrainedModel
    folder: Path

    def live(self) -> dict[str, str]:
        """Go through all steps."""
        base, self.model = self.model, self.saved(self.model, "base")
        groups = neuron_groups(base)
        steps = {"unlearn": _tried(self.unlearned)}
        if steps["unlearn"]:
            # Some learn more slowly, and of what was never learned nothing can be unlearned.
            base = teach_(teach_(base))
            self.model = self.saved(base, "base")
            steps = {"unlearn": _tried(self.unlearned)}
        mask = every_fourth(groups, base) if steps["unlearn"] else self.mask
        if steps["unlearn"]:
            # What follows is true of any mask.
            remove_(self.model, mask, groups)
        removed = _logits(self.model)
        steps["reload"] = _tried(lambda: self.reloads(self.model, "removed"))
        steps["masked"] = _tried(lambda: self.silenced(base, mask, removed))
        steps["remove folder"] = _tried(lambda: self.by_folder(remove_folder, "base", mask, removed))
        narrow = narrow_mask(groups, base)
        for layout in LAYOUTS:
            steps |= self.smaller(base, "base", narrow, layout, layout)
            if not steps[layout]:
                once = type(base).from_pretrained(self.folder / layout, dtype=torch.float32).eval()
                mask_of_once = narrow_mask(neuron_groups(once), once)
                steps |= self.smaller(once, layout, mask_of_once, layout, f"{layout} again") if _removes(mask_of_once) else {}
        return steps

    def unlearned(self) -> bool:
        """Unlearn the numbers."""
        run = partial(unlearn, self.model, documents(NUMBERS), documents(WORDS), tokenizer=tiny_tokenizer(), progress=False)
        self.mask = run(**SETTINGS).mask
        return True

    def saved(self, model: PreTrainedModel, name: str) -> PreTrainedModel:
        """Save a model with its tokenizer, and load it with plain transformers."""
        model.save_pretrained(self.folder / name)
        tiny_tokenizer().save_pretrained(self.folder / name)
        return type(model).from_pretrained(self.folder / name, dtype=torch.float32).eval()

    def reloads(self, model: PreTrainedModel, name: str) -> bool:
        """Save a model, load it, and compare: every tensor bit for bit, and what is computed of them up to rounding."""
        loaded = self.saved(model, name)
        return same_tensors(model, loaded) and _close(_logits(loaded), _logits(model))

    def silenced(self, model: PreTrainedModel, mask: NeuronMask, expected: Tensor) -> bool:
        """Compare a masked model with what it should give."""
        with masked(model, mask):
            return _close(_logits(model), expected)

    def smaller(self, model: PreTrainedModel, source: str, mask: NeuronMask, layout: Layout, name: str) -> dict[str, str]:
        """Make a model smaller in memory and from folder to folder."""
        with masked(model, mask):
            expected = _logits(model)

        def in_memory() -> bool:
            small = compact(model, mask, layout=layout)
            return _close(_logits(small), expected) and self.reloads(small, name)

        def between_folders() -> bool:
            return self.by_folder(partial(compact_folder, layout=layout), source, mask, expected)

        return {name: _tried(in_memory), f"{name}, by folder": _tried(between_folders)}

    def by_folder(self, change: Callable[..., object], source: str, mask: NeuronMask, expected: Tensor) -> bool:
        """Change a checkpoint from folder to folder, and compare what was written with what it should give."""
        with temporary_folder() as target:
            change(self.folder / source, target / "changed", mask)
            found = type(self.model).from_pretrained(target / "changed", dtype=torch.float32).eval()
            return _close(_logits(found), expected)


def every_fourth(groups: Any, model: PreTrainedModel) -> NeuronMask:
    """Draw a mask that removes every fourth neuron."""
    everything = NeuronMask.keep_all(groups, str(model.name_or_path))
    return everything.with_kept({name: torch.arange(len(kept)) % 4 != 0 for name, kept in everything.items()})


def _removes(mask: NeuronMask) -> bool:
    """Tell whether a mask removes anything."""
    return any(not kept.all() for kept in mask.values())


def _logits(model: PreTrainedModel) -> Float[Tensor, "..."]:
    """The logits on the beginning of one document of each language."""
    ids = token_ids()[[3, -3], :12]
    return outputs(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _close(mine: Tensor, other: Tensor) -> bool:
    """Tell whether logits are the same up to rounding."""
    return bool((mine - other).abs().max() <= ROUNDING * max(1.0, float(other.abs().max())))


def _tried(step: Callable[[], bool]) -> str:
    """Try a step: nothing where it works, the sentence that refuses it, or what went wrong."""
    try:
        return "" if step() else f"{FAULT}other outputs"
    except UntangleError as error:
        return str(error)
    except Exception as error:  # Whatever comes from below is a fault.
        return f"{FAULT}{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
