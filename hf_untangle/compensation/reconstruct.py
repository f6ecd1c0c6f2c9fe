"""Blocks trained one at a time to write what they wrote with all of their neurons, on what the pruned layers before feed them.

Single matrices that are fitted each by itself give less back than whole sub-modules, whose gates and producers adapt too
(arXiv:2510.14444).
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.sharding import is_sharded
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.compensation.block_training import BlockSettings, TrainedBlock, train_block
from hf_untangle.compensation.dense_block import BlockCall, DenseBlock, record_calls
from hf_untangle.compensation.finished_blocks import FinishedBlocks
from hf_untangle.compensation.layer_by_layer import LayerByLayer
from hf_untangle.compensation.refit import Refit, exchanged, least_squares, parted
from hf_untangle.data.blocks import Blocks
from hf_untangle.errors import ConfigError
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.progress import Bar, track

STEPS = 200
"""Steps of training per block."""
LEARNING_RATE = 3e-3
"""The largest learning rate of a block, relative to the root mean square of each weight matrix."""
BATCH = 4
"""Blocks of tokens in a step at the most."""


@checked_arguments
@all_or_nothing
@torch.no_grad()
def reconstruct(  # noqa: PLR0913 (one parameter an option)
    model: PreTrainedModel,
    mask: NeuronMask,
    groups: tuple[NeuronGroup, ...],
    blocks: Blocks,
    *,
    constants: Constants | None = None,
    steps: int = STEPS,
    learning_rate: int | float = LEARNING_RATE,
    batch_size: int = 8,
    seed: int = 0,
    progress: bool = True,
) -> Refit:
    """Refit output projections in closed form, then train each block to write what it wrote with all of its neurons.

    FFN and attention blocks that lose neurons are trained one after another, in the order in which they run, from the weights
    of `least_squares`: the output projection and all that computes its neurons, in float32, by Adam on the squared error.
    Each is given what the layers before it write, once those are pruned and trained. The last quarter of the blocks of tokens
    is held out, and the step that is best there is taken.

    Beside the model there are the states of one layer, and what goes into its blocks and comes out, for all tokens, on the
    host, and one block with a gradient and two moments. The model's body runs about three times in all. Every finished block
    is written to the cache folder, so that the same call continues after the last one when it was stopped.

    Args:
        model: The model, which is left as it was: `remove_(..., weights=)` writes the weights, `refitted` tries them out.
        mask: Which neurons stay.
        groups: The neuron groups of this model.
        blocks: The text that is to stay as it was; tokens that do not count are left out.
        constants: What removed neurons are held at without a refit, by group; zero when None.
        steps: Steps of training per block; each reads up to four blocks of tokens.
        learning_rate: The largest one, relative to the root mean square of each weight matrix.
        batch_size: Blocks of tokens in one forward pass of the closed form.
        seed: For the order of the batches.
        progress: Whether to show progress bars.

    Returns:
        The new weights, those of producers too.

    Raises:
        ConfigError: There are no steps, too few blocks, layers in more than one stack, or weights spread over processes.
    """
    start = time.perf_counter()
    if steps < 1 or learning_rate <= 0:
        raise ConfigError(
            f"Blocks are trained in at least one step, at a positive learning rate, got steps={steps} and "
            f"learning_rate={learning_rate}. Use compensate='least-squares' to train nothing."
        )
    _check_places(model, mask, groups)
    refit = least_squares(model, mask, groups, blocks, constants=constants, batch_size=batch_size, progress=progress)
    settings, size = BlockSettings(steps, float(learning_rate), seed), min(batch_size, BATCH)
    said = {"settings": vars(settings), "batch": size, "ridges": refit.ridges, "errors": refit.errors}
    finished = FinishedBlocks(model, mask, tokens=blocks.fingerprint, **said)
    stages = _stages(model, mask, groups)
    trained: dict[str, TrainedBlock] = {}
    if stages:
        with evaluation_mode(model):
            trained = _all_trained(_Setting(model, mask, refit, settings, finished), stages, blocks, size, progress)
    finished.close()
    weights = {name: weight for one in trained.values() for name, weight in one.weights.items()}
    return replace(
        refit,
        weights=refit.weights | weights,
        block_errors={name: one.error for name, one in trained.items()},
        seconds=time.perf_counter() - start,
    )


Stage = Sequence[DenseBlock]
"""Blocks of one kind in one layer, which do not feed each other."""


@dataclass(frozen=True, eq=False)
class _Setting:
    """What training has to know."""

    model: PreTrainedModel
    mask: NeuronMask
    refit: Refit
    """The weights to begin with."""
    settings: BlockSettings
    finished: FinishedBlocks

    def of(self, block: DenseBlock, found: TrainedBlock) -> ExitStack:
        """Put a trained block into the model, until the stack is closed."""
        name = block.group.name
        alone = {one: kept if one == name else torch.ones_like(kept) for one, kept in self.mask.items()}
        with ExitStack() as changed:
            changed.enter_context(exchanged(self.model, self.start(block) | found.weights))
            changed.enter_context(masked(self.model, self.mask.with_kept(alone), constants=self.refit.constants))
            return changed.pop_all()

    def start(self, block: DenseBlock) -> dict[str, Tensor]:
        """The weights that the training of a block begins with, as far as they are not its own."""
        name = block.group.name
        return {name: self.refit.weights[name]} if name in self.refit.weights else {}

    def trained(self, block: DenseBlock, calls: Sequence[BlockCall], held_out: Sequence[BlockCall], bar: Bar) -> TrainedBlock:
        """Train a block, and write the outcome down."""
        if not self.mask[block.group.name].any():
            # Of a block that goes as a whole there is nothing to train.
            return TrainedBlock({}, 1.0)
        constants = None if self.refit.constants is None else self.refit.constants[block.group.name]
        pruned = block.pruned(self.mask, self.start(block), constants)
        found = train_block(block, pruned, self.mask, calls, held_out, self.settings, bar)
        self.finished.write(block, found)
        return found


def _all_trained(
    setting: _Setting, stages: Sequence[Stage], blocks: Blocks, size: int, progress: bool
) -> dict[str, TrainedBlock]:
    """Train all blocks in the order in which they run."""
    model, steps = setting.model, setting.settings.steps
    train, held_out = (list(part.mine().batches(size)) for part in parted(blocks))
    layers = LayerByLayer(model, stages[0][0].group.stack, [*train, *held_out])
    last = max(stage[0].group.layer for stage in stages)
    count = sum(map(len, stages))
    # An FFN is about half of a layer.
    work: dict[str, Any] = {"kind": "training", "weight": size * blocks.width / (2 * len(layers))}
    found: dict[str, TrainedBlock] = {}
    with track(f"blocks on {blocks.corpus.name}", count * steps, unit="step", progress=progress, **work) as bar:
        for number in range(last + 1):
            with ExitStack() as changed:
                for stage in (one for one in stages if one[0].group.layer == number):
                    found |= (of_stage := _stage_trained(setting, stage, layers, number, len(train), bar))
                    for block in stage:
                        changed.push(setting.of(block, of_stage[block.group.name]))
                if number < last:
                    layers.advance(number)
    return found


def _stage_trained(
    setting: _Setting, stage: Stage, layers: LayerByLayer, number: int, training: int, bar: Bar
) -> dict[str, TrainedBlock]:
    """Train the blocks of one stage, where they were not finished by a call that was stopped."""
    finished = {block.group.name: setting.finished.read(block) for block in stage}
    left = [block for block in stage if finished[block.group.name] is None]
    found = {name: one for name, one in finished.items() if one is not None}
    if found:
        bar.resume_at(bar.done + setting.settings.steps * len(found))
    calls = record_calls(left, layers, number) if left else {}
    for block in left:
        # Calls go with the training, so that those of one block at a time lie beside the others that wait.
        own = calls.pop(block.group.name)
        train, held_out = ([call for index, call in own if (index < training) is is_train] for is_train in (True, False))
        found[block.group.name] = setting.trained(block, train, held_out, bar)
    return found


def _check_places(model: PreTrainedModel, mask: NeuronMask, groups: Sequence[NeuronGroup]) -> None:
    """Refuse a model whose blocks cannot be trained one after another."""
    stacks = sorted({group.stack for group in groups if not mask[group.name].all()})
    if is_sharded(model) or len(stacks) > 1 or "" in stacks:
        have = "weights that are spread over processes" if is_sharded(model) else f"layers in {', '.join(stacks) or 'none'}"
        raise ConfigError(
            f"Blocks are trained in one stack of layers, each of them whole in every process, but this model has {have}. Use "
            "compensate='least-squares'."
        )


def _stages(model: PreTrainedModel, mask: NeuronMask, groups: Sequence[NeuronGroup]) -> list[Stage]:
    """The blocks that lose neurons, in the order in which they run."""
    found: dict[tuple[int, str], list[DenseBlock]] = {}
    for group in groups:
        if not mask[group.name].all():
            found.setdefault((group.layer, group.kind), []).append(DenseBlock.of(model, group))
    return sorted(found.values(), key=lambda stage: stage[0].group.layer)
