"""Output projections refitted in closed form, so that kept neurons write what removed ones did."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.commit import undone_on_failure
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.parameters import Edit, read_matrix, read_parameter, write_parameters_
from hf_untangle.architecture.projections import matrix_of, place_of
from hf_untangle.architecture.quantized import has_codes
from hf_untangle.architecture.sharding import is_shard
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import model_below
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.compensation.ridge import RIDGES, Prediction, predict, squared_error
from hf_untangle.data.batch_size import BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.masks.ablation import Constants
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.removal import check_removable, low_rank_factors
from hf_untangle.models import name_and_revision
from hf_untangle.statistics.gram import Gram, collect_grams, passes_of, shape_of

Compensation = Literal["none", "mean", "least-squares", "block"]
"""What makes up for removed neurons: nothing, their mean in a bias, a refit of the output weights that stay, or one with a
training of each block after it."""


def with_ablation(settings: Any) -> Any:
    """Write compensation by the mean as the ablation that it is.

    Args:
        settings: Settings by name, as somebody gave them.

    Returns:
        The same, with `ablation="mean"` where the mean of removed neurons is to make up for them.

    Raises:
        ValueError: The compensation and the ablation cannot be joined; pydantic makes a validation error of it.
    """
    if not isinstance(settings, Mapping) or settings.get("compensate", "none") == "none":
        return settings
    ablation = settings.get("ablation", "zero")
    if ablation == "mode":
        raise ValueError("compensate must come with ablation='zero' or 'mean', got 'mode', which holds neurons elsewhere")
    return {**settings, "ablation": "mean"} if settings["compensate"] == "mean" else settings


HELD_OUT = 4
"""One block of so many, the last ones, is held out to choose the ridge on."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Refit:
    """New weights of output projections, and how they came about."""

    weights: dict[str, Tensor]
    """The whole weight of each refitted projection, and of what computes its neurons where that was trained, on the CPU and as
    its parameter has it: columns and rows of removed neurons are as they were, and still to be removed."""
    constants: Constants | None
    """What removed neurons are to read at removal, from then on in a bias; zero when None."""
    ridges: dict[str, float | None]
    """By group with removed neurons: the ridge that was best on held-out blocks; None where no refit was."""
    errors: dict[str, float]
    """By group: squared error of what the projection writes on held-out blocks, relative to that without a refit."""
    tokens: int
    """How many tokens it was fitted on, those held out at first included."""
    seconds: float
    block_errors: dict[str, float] = field(default_factory=dict)
    """By group whose block was trained: squared error of what the block writes on held-out blocks, relative to that of the
    refit alone; empty where nothing was trained."""
    __repr__ = fields_repr


@checked_arguments
@all_or_nothing
@torch.no_grad()
def least_squares(
    model: PreTrainedModel,
    mask: NeuronMask,
    groups: tuple[NeuronGroup, ...],
    blocks: Blocks,
    *,
    constants: Constants | None = None,
    ridges: Sequence[float] = RIDGES,
    batch_size: BatchSize = 8,
    progress: bool = True,
) -> Refit:
    """Refit the output projection of each group so that kept neurons write what all wrote, with the least squared error.

    Moments are those of the model as it is, summed in one pass over the tokens, or in several where those of all groups would
    not fit into memory together. For each group the ridge is the one of the least error on the last quarter of the blocks;
    where no refit does better, there is none. Then all blocks are fitted. Where removed neurons are held at
    a constant, or where all projections have a bias, an intercept is fitted too.

    Args:
        model: The model, which is left as it was: `remove_(..., weights=)` writes the refit, `refitted` tries it out.
        mask: Which neurons stay.
        groups: The neuron groups of this model.
        blocks: The text that is to stay as it was; tokens that do not count are left out.
        constants: What removed neurons are held at without a refit, by group; zero when None.
        ridges: Penalties to choose from, relative to the mean square of the kept neurons. Small ones fit few tokens too well.
        batch_size: Blocks in one forward pass.
        progress: Whether to show progress bars.

    Returns:
        The new weights.

    Raises:
        MaskError: The mask is not this model's, or its weights cannot be refitted.
        ConfigError: There are too few blocks to hold some of them out.
    """
    start = time.perf_counter()
    mask.check_fits(groups, *name_and_revision(model))
    check_refittable(model, groups)
    by_name = {group.name: group for group in groups}
    gone = [by_name[name] for name, kept in mask.items() if not kept.all()]
    fitted, held_out = parted(blocks)
    with_bias = constants is not None or all(place_of(model, group.name).bias is not None for group in gone)
    found: dict[str, _Found] = {}
    for some in passes_of(model, gone, copies=2):
        how = {"batch_size": batch_size, "progress": progress}
        train, test = collect_grams(model, fitted, some, **how), collect_grams(model, held_out, some, **how)
        for group in some:
            held = None if constants is None else constants[group.name]
            fit = _Fit(model, group, mask[group.name], held, with_bias)
            found[group.name] = fit.best(train.pop(group.name), test.pop(group.name), ridges)
    return Refit(
        weights={name: one.weight for name, one in found.items() if one.weight is not None},
        constants={name: one.constant for name, one in found.items()} if with_bias and found else constants,
        ridges={name: one.ridge for name, one in found.items()},
        errors={name: one.error for name, one in found.items()},
        tokens=blocks.tokens,
        seconds=time.perf_counter() - start,
    )


@checked_arguments
@contextmanager
def refitted(model: nn.Module, refit: Refit | None) -> Iterator[nn.Module]:
    """Give output projections their new weights inside the `with` block, and their own ones, bit for bit, after it.

    Removed neurons are still there: `masked(model, mask, constants=refit.constants)` silences them.

    Args:
        model: The model.
        refit: The new weights; none when None.

    Yields:
        The same model.
    """
    with exchanged(model_below(model), refit.weights if refit else {}):
        yield model


@contextmanager
def exchanged(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give projections other weights inside the `with` block, and their own ones, bit for bit, after it.

    Args:
        model: The model, below adapters.
        weights: By projection, as their parameters have them.

    Yields:
        Nothing.
    """
    weights = {place_of(model, name).weight: weight for name, weight in weights.items()}
    here = {name: own for name in weights if not ((own := model.get_parameter(name)).is_meta or is_shard(own))}
    elsewhere = weights.keys() - here.keys()
    # What is in memory is exchanged and not overwritten, so that nothing is copied to be undone.
    with undone_on_failure() as undo, ExitStack() as back:
        for name, parameter in here.items():
            for stack in (undo, back):
                stack.callback(setattr, parameter, "data", parameter.data)
            parameter.data = weights[name].to(parameter.device)
        own = [Edit(name, (slice(None),), read_parameter(model, name).cpu().clone()) for name in elsewhere]
        write_parameters_(model, [Edit(name, (slice(None),), weights[name]) for name in elsewhere])
        yield
        write_parameters_(model, own)


def check_refittable(model: nn.Module, groups: Sequence[NeuronGroup]) -> None:
    """Refuse a model whose output projections cannot hold new weights.

    Args:
        model: The model.
        groups: The neuron groups whose projections may be refitted.

    Raises:
        MaskError: Some of the weights are quantized or not loaded, or carry an adapter.
    """
    check_removable(model, tuple(groups))
    for group in groups:
        if has_codes(matrix_of(model, group.name).parameter):
            raise MaskError(
                f"The weights of `{group.name}` must be in floating point to be refitted, but they are quantized. Load the "
                "model in full precision, or use compensate='none'."
            )
        if low_rank_factors(model, group.name, "lora_A"):
            raise MaskError(
                f"`{group.name}` must carry no adapter to be refitted, but there is LoRA on it. Merge it first, with "
                "`merge_and_unload`, or use compensate='none'."
            )


@dataclass(frozen=True, eq=False)
class _Found:
    """What came of one group."""

    weight: Tensor | None
    constant: Float[Tensor, " neuron"]
    ridge: float | None
    error: float


@dataclass(frozen=True, eq=False)
class _Fit:
    """One group that is to be refitted."""

    model: nn.Module
    group: NeuronGroup
    kept: Bool[Tensor, " neuron"]
    held: Float[Tensor, " neuron"] | None
    """What removed neurons read without a refit; zero when None."""
    intercept: bool

    def best(self, train: Gram, test: Gram, ridges: Sequence[float]) -> _Found:
        """Choose the ridge on held-out blocks, and fit all of them."""
        reads = read_matrix(self.model, self.group.name)
        without = self.error(test, reads.weight, None)
        errors = {ridge: self.error(test, reads.weight, self.predictions(train, ridge)) for ridge in ridges}
        ridge = min(errors, key=errors.__getitem__)
        held = torch.zeros(self.group.size) if self.held is None else self.held.cpu()
        if not errors[ridge] < without:
            return _Found(None, held, None, 1.0)
        predictions = self.predictions(train + test, ridge)
        weight, constant = reads.weight.clone(), held.double().view(len(reads.weight), -1).clone()
        for expert, prediction in enumerate(predictions):
            if prediction is not None:
                kept = self.kept_of(expert).to(weight.device)
                through = weight[expert][:, ~kept].to(prediction.weights)
                added = through @ prediction.weights.T
                weight[expert][:, kept] = (weight[expert][:, kept].to(added) + added).to(weight)
                constant[expert][~kept.cpu()] = prediction.constant.cpu()
        own = weight.transpose(1, 2) if reads.transposed else weight
        stacked = place_of(self.model, self.group.name).is_stack
        return _Found((own if stacked else own[0]).contiguous().cpu(), constant.flatten(), ridge, errors[ridge] / without)

    def predictions(self, gram: Gram, ridge: float) -> list[Prediction | None]:
        """Predict the removed neurons of every expert."""
        experts = range(shape_of(self.group)[0])
        return [predict(gram, one, self.kept_of(one), ridge, intercept=self.intercept) for one in experts]

    def error(self, gram: Gram, reads: Tensor, predictions: list[Prediction | None] | None) -> float:
        """The squared error over all experts."""
        total = 0.0
        for expert, weight in enumerate(reads):
            kept = self.kept_of(expert)
            held = None if self.held is None else self.held.view(len(reads), -1)[expert][~kept]
            prediction = None if predictions is None else predictions[expert]
            total += squared_error(gram, expert, kept, weight, prediction, held)
        return total

    def kept_of(self, expert: int) -> Bool[Tensor, " neuron"]:
        """Which neurons of an expert stay."""
        return self.kept.view(shape_of(self.group)[0], -1)[expert]


def parted(blocks: Blocks) -> tuple[Blocks, Blocks]:
    """Hold the last blocks out, as they are of other documents than most of the rest.

    Args:
        blocks: All blocks.

    Returns:
        Those to fit, and those that are held out.

    Raises:
        ConfigError: There are too few.
    """
    count = len(blocks.counted)
    held_out = max(1, count // HELD_OUT)
    if count < 2:
        raise ConfigError(
            f"A refit needs at least two blocks, one of them held out, got {count} of {blocks.corpus.name}. Pass more text, or "
            "a smaller block_size."
        )
    return blocks.rows(slice(0, count - held_out)), blocks.rows(slice(count - held_out, count))
