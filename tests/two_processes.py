"""What the tests of callbacks run in two processes: each trains on its own batches, and writes down what it saw.

torchrun --nproc-per-node 2 tests/two_processes.py FOLDER    # which holds the folder `tokenizer`
"""

import json
import sys
from pathlib import Path

import torch
from conftest import FAMILIES
from torch import nn
from toy_languages import BLOCK, NUMBERS, WORDS
from trainers import a_trainer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, TrainerCallback

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.callbacks.mask import MaskCallback
from hf_untangle.callbacks.nets import NetsCallback
from hf_untangle.callbacks.statistics import StatisticsCallback
from hf_untangle.callbacks.unlearn_evaluation import UnlearnEvaluationCallback
from hf_untangle.data.batches import token_blocks
from hf_untangle.masks.hold_removed import all_zero, held_parameters
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import remove_
from hf_untangle.repairs.repair import repair

ACCUMULATING = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
"""Twelve of the 24 examples per step, over two processes."""
TOKENS, LOSS = "untangle/statistics/tokens", "untangle/nets/loss"


class Zeros(TrainerCallback):
    """Writes down, after every step, whether removed neurons were zero."""

    def __init__(self, mask: NeuronMask, groups) -> None:
        self.mask, self.groups, self.seen = mask, groups, []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        assert isinstance(model, nn.Module)
        self.seen.append(all_zero(held_parameters(model, self.mask, self.groups)))


def a_model() -> PreTrainedModel:
    """The same tiny model in every process."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **FAMILIES["llama"]))


def half_mask(groups) -> NeuronMask:
    """Every second neuron goes, so that value rows lose only some of their query heads."""
    return NeuronMask.keep_all(groups, "tiny").with_kept({each.name: torch.arange(each.size) % 2 > 0 for each in groups})


def held_at_zero(folder: Path) -> dict:
    """Train two epochs with a mask and measurements, stop in the middle, and continue."""
    model = a_model()
    groups = neuron_groups(model)
    mask = half_mask(groups)
    remove_(model, mask, groups)
    saving = {"save_strategy": "steps", "save_steps": 2, **ACCUMULATING}
    for resumed in (None, str(folder / "checkpoint-2")):
        zeros = Zeros(mask, groups)
        trainer = a_trainer(model, folder, **saving)
        trainer.add_callback(MaskCallback(trainer, mask))
        trainer.add_callback(zeros)
        reading = {"tokenizer": AutoTokenizer.from_pretrained(folder.parent / "tokenizer"), "evaluation_tokens": 128}
        trainer.add_callback(UnlearnEvaluationCallback(trainer, NUMBERS, WORDS, every=2, block_size=BLOCK, **reading))
        trainer.train(resume_from_checkpoint=resumed)
    logged = [entry for entry in trainer.state.log_history if "untangle/unlearn/forget_top1" in entry]
    weights = [float(parameter.double().sum()) for parameter in model.parameters()]
    return {"zeros": zeros.seen, "weights": weights, "logged": [entry["step"] for entry in logged]}


def statistics(folder: Path) -> dict:
    """Watch an epoch in which no weight changes."""
    trainer = a_trainer(a_model(), folder, learning_rate=0.0, max_steps=-1, num_train_epochs=1, **ACCUMULATING)
    callback = StatisticsCallback(trainer)
    trainer.add_callback(callback)
    trainer.train()
    sums = {name: moments.square.tolist() for name, moments in callback.statistics.items()}
    logged = [entry[TOKENS] for entry in trainer.state.log_history if TOKENS in entry]
    return {"tokens": callback.statistics.tokens, "square": sums, "logged": logged}


def repaired(method: str) -> dict:
    """Repair a pruned model, each process on its own batches."""
    model = a_model()
    groups = neuron_groups(model)
    mask = half_mask(groups)
    remove_(model, mask, groups)
    tokenizer = AutoTokenizer.from_pretrained(Path(sys.argv[1]) / "tokenizer")
    small = {"steps": 3, "step_tokens": 8 * BLOCK, "batch_size": 2, "block_size": BLOCK, "evaluation_tokens": 128}
    record = repair(model, mask, NUMBERS, WORDS, tokenizer=tokenizer, method=method, progress=False, **small)
    weights = [float(parameter.double().sum()) for parameter in model.parameters()]
    zero = all_zero(held_parameters(model, mask, groups))
    return {"weights": weights, "zero": zero, "loss": [record.before.retain.loss, record.after.retain.loss]}


def evolved(folder: Path) -> dict:
    """Train while masks evolve."""
    tokenizer = AutoTokenizer.from_pretrained(folder.parent / "tokenizer")
    blocks = token_blocks(WORDS, tokenizer, tokens=256, block_size=BLOCK)
    model = a_model()
    search = {"population": 6, "density": 0.7, "grow": 0.05, "shrink": 0.02, "batch_size": 4}
    trainer = a_trainer(model, folder, max_steps=4, learning_rate=1e-2, **ACCUMULATING)
    trainer.add_callback(callback := NetsCallback(trainer, blocks, every=1, **search))
    trainer.train()
    logged = [entry[LOSS] for entry in trainer.state.log_history if LOSS in entry]
    mask = {name: kept.tolist() for name, kept in callback.mask.items()}
    return {"mask": mask, "logged": logged, "weights": [float(each.double().sum()) for each in model.parameters()]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    facts = {"held": held_at_zero(out / "held"), "statistics": statistics(out / "statistics")}
    facts["evolved"] = evolved(out / "evolved")
    facts |= {method: repaired(method) for method in ("lora", "full")}
    rank = torch.distributed.get_rank()
    (out / f"rank-{rank}.json").write_text(json.dumps(facts))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
