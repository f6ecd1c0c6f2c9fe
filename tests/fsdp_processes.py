"""What the tests of FSDP run in two processes: each holds its part of a model, and writes down what it found.

torchrun --nproc-per-node 2 tests/fsdp_processes.py FOLDER    # which holds the checkpoint `toy`
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.errors import MaskError
from hf_untangle.evaluation.next_token import next_token_metrics
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_in_memory
from hf_untangle.masks.undo_removal import bit_sum, cut_out_, put_back_
from hf_untangle.statistics.collect import collect
from hf_untangle.statistics.saliency import collect_saliency
from hf_untangle.statistics.weight_norms import weight_norms
from hf_untangle.unlearn import unlearn

SETTINGS: dict[str, Any] = {"tokens": 1056, "evaluation_tokens": 544, "block_size": 32, "batch_size": 4}
SETTINGS |= {"ffn_fraction": 0.1, "steps": 2, "controls": 0}


def a_model(folder: Path) -> PreTrainedModel:
    """The model, every layer of which is spread over all processes, and the rest with its root."""
    model = AutoModelForCausalLM.from_pretrained(folder / "toy").eval()
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    return model


def half_mask(model: PreTrainedModel) -> NeuronMask:
    """Every second neuron goes, so that value rows lose only some of their query heads."""
    groups = neuron_groups(model)
    return NeuronMask.keep_all(groups, "toy").with_kept({each.name: torch.arange(each.size) % 2 > 0 for each in groups})


def measured(model: PreTrainedModel, blocks: TokenBlocks) -> dict[str, Any]:
    """Everything that is measured, on blocks that two processes cannot share evenly."""
    groups = neuron_groups(model)
    facts: dict[str, Any] = {"metrics": next_token_metrics(model, blocks, batch_size=2, progress=False).record()}
    facts["square"] = {name: one.square for name, one in collect(model, blocks, batch_size=2, progress=False).items()}
    saliency = collect_saliency(model, blocks, groups=groups, batch_size=2, progress=False)
    facts["saliency"] = {name: one.second for name, one in saliency.items()}
    facts["rows"] = {name: one.rows for name, one in weight_norms(model, groups).items()}
    with masked(model, half_mask(model)):
        facts["masked"] = next_token_metrics(model, blocks, batch_size=2, progress=False).record()
    return facts


def removed(model: PreTrainedModel, blocks: TokenBlocks) -> dict[str, Any]:
    """What removal leaves, and whether it is undone."""
    groups, mask, original = neuron_groups(model), half_mask(model), bit_sum(model)
    kept = cut_out_(model, mask, groups)
    facts: dict[str, Any] = {"removed": next_token_metrics(model, blocks, batch_size=2, progress=False).record()}
    facts["bits"] = bit_sum(model)
    put_back_(model, kept)
    return facts | {"undone": bit_sum(model) == original}


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    distributed.init_process_group("gloo")
    tokenizer = AutoTokenizer.from_pretrained(out / "toy")
    blocks = token_blocks(str(out / "numbers.jsonl"), tokenizer, tokens=544, block_size=32).first(5)
    model = a_model(out)
    found = measured(model, blocks) | removed(model, blocks)
    try:
        check_in_memory(model, neuron_groups(model))
    except MaskError as error:
        found["refusal"] = str(error)
    corpora = (str(out / f"{name}.jsonl") for name in ("numbers", "words"))
    unlearn(model, *corpora, tokenizer=tokenizer, progress=False, **SETTINGS).save_pretrained(out / "unlearned")
    torch.save(found, out / f"rank-{distributed.get_rank()}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
