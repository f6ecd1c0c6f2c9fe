"""Passes over a text in which something of the model is watched."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from transformers import PreTrainedModel

from hf_untangle.architecture.forward import in_step, run_body
from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.architecture.reads_tokens import positions_suffice
from hf_untangle.data.batch_size import Batches, BatchSize
from hf_untangle.data.blocks import Blocks


def run_watched(
    model: PreTrainedModel,
    blocks: Blocks,
    watch: Callable[[Blocks], AbstractContextManager[None]],
    what: str,
    *,
    batch_size: BatchSize,
    progress: bool,
) -> None:
    """Run the base model once over the blocks of this process.

    Args:
        model: The model, which is left as it was.
        blocks: The text.
        watch: What to do around the pass of each batch. A batch that does not fit into memory is begun again in parts.
        what: What is looked at, for the progress bar.
        batch_size: Blocks in one forward pass.
        progress: Whether to show a progress bar.
    """
    batches = Batches(blocks, batch_size)
    device = input_device(model)

    def forward(batch: Blocks) -> None:
        with watch(batch), positions_suffice(model, batch.counted.shape[1]):
            run_body(model, batch.inputs(device))

    with (
        blocks.bar(what, progress=progress) as bar,
        evaluation_mode(model),
        without_gradients(model),
        in_step(model, batches.passes(), run_body),
    ):
        for batch in batches.run(forward):
            bar.update(batch.tokens)
