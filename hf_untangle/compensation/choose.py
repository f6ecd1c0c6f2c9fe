"""Making up for removed neurons in the way that settings ask for."""

from transformers import PreTrainedModel

from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.compensation.reconstruct import STEPS, reconstruct
from hf_untangle.compensation.refit import Compensation, Refit, least_squares
from hf_untangle.data.batch_size import BatchSize, first_size
from hf_untangle.data.blocks import Blocks
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask

REFITS: tuple[Compensation, ...] = ("least-squares", "block")
"""Those that give kept neurons new weights."""


def refit_by(  # noqa: PLR0913 (one parameter an option)
    compensation: Compensation,
    model: PreTrainedModel,
    mask: NeuronMask,
    groups: tuple[NeuronGroup, ...],
    blocks: Blocks,
    *,
    constants: Constants | None = None,
    steps: int = STEPS,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Refit | None:
    """Find new weights for what is kept.

    Args:
        compensation: How.
        model: The model, which is left as it was.
        mask: Which neurons stay.
        groups: The neuron groups of this model.
        blocks: The text that is to stay as it was.
        constants: What removed neurons are held at without a refit, by group; zero when None.
        steps: With `block`, steps of training per block.
        batch_size: Blocks in one forward pass.
        progress: Whether to show progress bars.

    Returns:
        The weights; None where none are asked for.
    """
    if compensation not in REFITS:
        return None
    size = first_size(batch_size, blocks.width)
    how = {"constants": constants, "batch_size": size, "progress": progress}
    if compensation == "block":
        return reconstruct(model, mask, groups, blocks, steps=steps, **how)
    return least_squares(model, mask, groups, blocks, **how)
