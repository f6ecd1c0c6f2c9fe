"""Starting again from what was given away: an adapter can be switched off, a checkpoint cannot."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from hf_untangle.attacks.context import Scene
from hf_untangle.folders import temporary_folder
from hf_untangle.logs import quiet
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.records.attacks import Reading


def adapter(scene: Scene) -> Iterator[Reading | str]:
    """Load the mask as an adapter and switch it off; load the checkpoint and look for what was removed.

    Args:
        scene: The models, text and settings.

    Yields:
        What is known with the adapter on, with it off, and by the checkpoint; whether the original came back bit for bit; and
        how many values of removed neurons are in the checkpoint.
    """
    with temporary_folder() as folder:
        yield from _from_adapter(scene, folder / "adapter")
        yield from _from_checkpoint(scene, folder / "checkpoint")


def _from_adapter(scene: Scene, folder: Path) -> Iterator[Reading | str]:
    """Write the mask as an adapter, load it onto the original by peft alone, and leave it out again."""
    from peft import PeftModel

    scene.mask.to_adapter(folder)
    with quiet():
        adapted = PeftModel.from_pretrained(deepcopy(scene.original), str(folder))
    below: PreTrainedModel = adapted.get_base_model()  # type: ignore[assignment]
    yield _reading(scene, below, "adapter on", 1)
    with adapted.disable_adapter():
        yield _reading(scene, below, "adapter off", 2)
        same_logits = torch.equal(_logits(scene, below), _logits(scene, scene.original))
    with quiet():
        freed: PreTrainedModel = adapted.unload()  # type: ignore[assignment]
    own = scene.original.state_dict()
    same_weights = all(torch.equal(value, own[name]) for name, value in freed.state_dict().items())
    outcome = (
        "gives the original back bit for bit" if same_logits and same_weights else "does not give the original back exactly"
    )
    yield f"The mask as an adapter hides and does not remove: leaving it out {outcome}."


def _from_checkpoint(scene: Scene, folder: Path) -> Iterator[Reading | str]:
    """Save the unlearned model, load it anew, and look for what was removed in it."""
    with quiet():
        scene.unlearned.save_pretrained(folder)
        again = AutoModelForCausalLM.from_pretrained(
            folder, dtype=scene.unlearned.dtype, device_map=str(scene.unlearned.device), trust_remote_code=False
        ).eval()
    yield _reading(scene, again, "checkpoint read anew", 3)
    held = held_parameters(again, scene.mask, scene.groups)
    count = sum(each.parameter[each.entries].numel() for each in held)
    if all_zero(held):
        yield f"All {count:,} values of removed neurons are zero in the checkpoint: its files hold nothing to switch back on."
    else:
        yield f"Some of the {count:,} values of removed neurons are not zero in the checkpoint."


def _reading(scene: Scene, model: PreTrainedModel, condition: str, at: int) -> Reading:
    """Measure one state of the result."""
    return Reading(model="unlearned", condition=condition, at=at, forget=scene.knows(model), seed=scene.config.seed)


@torch.inference_mode()
def _logits(scene: Scene, model: PreTrainedModel) -> torch.Tensor:
    """The logits of one block."""
    return model(**scene.forget.first(1).inputs(model.device), use_cache=False).logits
