"""Short Trainer runs with each of the callbacks, for the matrix of callbacks and conditions.

torchrun --nproc-per-node 2 tests/callback_runs.py FOLDER    # each of them in two processes; the folder holds `tokenizer`
"""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import FAMILIES
from peft import LoraConfig, get_peft_model
from toy_languages import BLOCK, NUMBERS, WORDS
from trainers import examples
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.density import DensityCallback
from hf_untangle.callbacks.entropy import EntropyCallback
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.callbacks.nets import NetsCallback
from hf_untangle.callbacks.statistics import StatisticsCallback
from hf_untangle.callbacks.translation import TranslationCallback
from hf_untangle.callbacks.unlearn_evaluation import UnlearnEvaluationCallback
from hf_untangle.data.batches import token_blocks
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask

STEPS = 4
FIXED: dict[str, Any] = {
    "use_cpu": True,
    "max_steps": STEPS,
    "per_device_train_batch_size": 4,
    "learning_rate": 3e-2,
    "weight_decay": 0.1,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


@dataclass
class Finished:
    """A run that has ended."""

    trainer: Trainer
    callback: Any = None
    logged: list[dict[str, Any]] = field(default_factory=list)
    """What was logged under `untangle/`, without times."""

    @property
    def model(self) -> Any:
        return self.trainer.model

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.model.state_dict().items()}


def a_model(seed: int = 0, *, lora: bool = False) -> Any:
    """A tiny OPT with dropout, whose activation is a ReLU, with or without an adapter on every projection."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("opt", **FAMILIES["opt"], dropout=0.1))
    if lora:
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    return model


def half_mask(model: Any) -> NeuronMask:
    """Every second neuron goes."""
    groups = neuron_groups(model)
    return NeuronMask.keep_all(groups, "tiny").with_kept({each.name: torch.arange(each.size) % 2 > 0 for each in groups})


def texts(trainer: Trainer, tokenizer: Any) -> TrainerCallback:
    small = {"evaluation_tokens": 128, "block_size": BLOCK}
    return UnlearnEvaluationCallback(trainer, NUMBERS, WORDS, every=2, tokenizer=tokenizer, **small)


def evolving(trainer: Trainer, tokenizer: Any) -> TrainerCallback:
    blocks = token_blocks(WORDS, tokenizer, tokens=256, block_size=BLOCK)
    return NetsCallback(trainer, blocks, every=2, population=4, density=0.7, grow=0.05, shrink=0.02, batch_size=2)


@torch.no_grad()
def accuracy(model: Any) -> float:
    """Next-token accuracy on the first examples."""
    ids = torch.stack([row["input_ids"] for row in examples(8)])
    return float((model(input_ids=ids).logits[:, :-1].argmax(-1) == ids[:, 1:]).float().mean())


Make = Callable[[Trainer, Any], TrainerCallback]
WATCHING: dict[str, Make] = {
    "unlearn": texts,
    "statistics": lambda trainer, _: StatisticsCallback(trainer, every=2),
    "entropy": lambda trainer, _: EntropyCallback(trainer, every=2, figures=False),
    "density": lambda trainer, _: DensityCallback(trainer, accuracy, every=2, grid=(0.5,), max_share_of_time=1.0),
    "translation": lambda trainer, _: TranslationCallback(trainer, {"input_ids": torch.arange(24).view(2, 12)}, every=2),
}
"""Those that training does not notice."""
ACTING: dict[str, Make] = {
    "mask": lambda trainer, _: MaskCallback(trainer, half_mask(trainer.model)),
    "removal": lambda trainer, _: EntropyCallback(trainer, every=2, mask_share=0.15, figures=False),
    "nets": evolving,
}
"""Those that it does."""
CALLBACKS = WATCHING | ACTING


def train(
    folder: Path, make: Make | None = None, tokenizer: Any = None, *, resume: str | None = None, seed: int = 0, **settings: Any
) -> Finished:
    """Train for four steps on random blocks."""
    lora = settings.pop("lora", False)
    # Weights are seeded; so are shuffling and dropout, by the Trainer.
    trainer = Trainer(
        a_model(seed, lora=lora),
        TrainingArguments(str(folder), **FIXED | settings),
        train_dataset=examples(),
        eval_dataset=examples(8),
    )
    callback = make(trainer, tokenizer) if make is not None else None
    if callback is not None:
        trainer.add_callback(callback)
    torch.manual_seed(1)
    trainer.train(resume_from_checkpoint=resume)
    logged = [
        {name: value for name, value in entry.items() if not name.endswith(("seconds", "share_of_time"))}
        for entry in trainer.state.log_history
        if any(name.startswith("untangle/") for name in entry)
    ]
    return Finished(trainer, callback, logged)


def removed_are_zero(finished: Finished) -> bool:
    """Whether everything that belongs to the neurons that the callback's mask removes is exactly zero."""
    model = finished.model
    return all_zero(held_parameters(model, finished.callback.mask, neuron_groups(model)))


def hooks(model: Any) -> int:
    """How many hooks there are on a model."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def facts(finished: Finished) -> dict[str, Any]:
    """What two processes must agree on, ready for JSON."""
    mask = getattr(finished.callback, "mask", {})
    return {
        "weights": {name: value.double().flatten().tolist() for name, value in finished.model.named_parameters()},
        "logged": finished.logged,
        "mask": {name: kept.tolist() for name, kept in mask.items()},
        "zero": removed_are_zero(finished) if mask else True,
        "hooks": hooks(finished.model),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    gc.freeze()  # or every Trainer looks through all imported modules for garbage
    out = Path(sys.argv[1])
    byte_tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    both = {"per_device_train_batch_size": 2, "ddp_backend": "gloo"}
    runs = {"without": train(out / "without", **both)}
    runs |= {name: train(out / name, make, byte_tokenizer, **both) for name, make in CALLBACKS.items()}
    rank = torch.distributed.get_rank()
    (out / f"rank-{rank}.json").write_text(json.dumps({name: facts(each) for name, each in runs.items()}))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
