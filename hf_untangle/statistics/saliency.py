"""How the loss depends on every neuron: sums of activation times gradient, and what they predict for a neuron's removal."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_untangle.architecture.forward import in_step
from hf_untangle.architecture.inference_mode import evaluation_mode, frozen, uncached
from hf_untangle.architecture.moe_hooks import Reading
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.offload import input_device
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.data.batch_size import Batches, BatchSize
from hf_untangle.data.blocks import Blocks
from hf_untangle.display import fields_repr
from hf_untangle.distributed import together
from hf_untangle.errors import StatisticsError
from hf_untangle.runtime import release_unused_memory
from hf_untangle.statistics.accumulators import GroupSums, Observer, observed
from hf_untangle.statistics.activation_statistics import ActivationStatistics
from hf_untangle.statistics.collect import finished, merged, rows_that_count
from hf_untangle.statistics.moments import Moments

Queries = tuple[Bool[Tensor, "*position"], Int[Tensor, " prediction"]]
"""Where something is predicted, and what it should be."""


@partial(checked_calls, nan=True)
@dataclass(frozen=True, eq=False)
class Saliency:
    """Sums over tokens for one neuron group: z is an activation, g the gradient of the summed loss at it.

    The loss is that of the tokens to predict alone, such as answers; it depends on the prompts before them too, so the sums are
    over all positions of rows with answers.
    """

    count: int
    """Number of tokens that were predicted."""
    first: Float[Tensor, " neuron"]
    """Sum of z g."""
    second: Float[Tensor, " neuron"]
    """Sum of (z g)^2."""
    absolute: Float[Tensor, " neuron"]
    """Sum of |z g|."""
    __repr__ = fields_repr

    def loss_rise(self) -> Float[Tensor, " neuron"]:
        """Predict how much the mean loss of a token rises, in nats, when one neuron is set to zero.

        A Taylor expansion to second order, with the diagonal of the Fisher information for the curvature:
        mean of -z g + (z g)^2 / 2 (first order: Molchanov et al. 2017, arXiv:1611.06440). It is negative where the model
        would predict better without the neuron.

        Returns:
            The rise for each neuron, all others unchanged.
        """
        return (-self.first + self.second / 2) / self.count


@checked_arguments
def collect_saliency(
    model: PreTrainedModel | ModelName,
    blocks: Blocks,
    *,
    groups: Sequence[NeuronGroup],
    batch_size: BatchSize = 2,
    progress: bool = True,
) -> dict[str, Saliency]:
    """Sum up how the next-token loss on a corpus depends on every neuron.

    One forward and one backward pass over the blocks. Parameters need not require gradients and get none, and memory does
    not grow with the number of batches.

    Args:
        model: A causal language model, masked or not, which is left as it was. A name or path is loaded.
        blocks: The tokens.
        groups: Which neuron groups to watch.
        batch_size: Blocks in one pass, which holds all activations and the logits of its blocks; "auto" halves them when
            memory runs out.
        progress: Whether to show a progress bar.

    Returns:
        The sums of each group, on the CPU, in float64.

    Raises:
        StatisticsError: A gradient was infinite or NaN.
    """
    model = opened(model)
    parts = together(lambda: _pass_over(model, blocks.mine(), groups, None, batch_size=batch_size, progress=progress))
    return _saliency_of(groups, parts)


def collect_with_saliency(
    model: PreTrainedModel,
    blocks: Blocks,
    *,
    groups: Sequence[NeuronGroup],
    batch_size: BatchSize = 2,
    roots: bool = False,
    progress: bool = True,
) -> tuple[ActivationStatistics, dict[str, Saliency]]:
    """Sum up what every neuron does on a corpus, and how the loss depends on it, in one forward and one backward pass.

    The forward pass that gradients need shows all activations, so that both together cost no more than the gradients.

    Args:
        model: A causal language model, masked or not, which is left as it was.
        blocks: The tokens.
        groups: Which neuron groups to watch.
        batch_size: As in `collect_saliency`.
        roots: Whether to sum sqrt|z| too.
        progress: Whether to show a progress bar.

    Returns:
        What `collect` gives, and what `collect_saliency` gives.

    Raises:
        StatisticsError: A neuron group saw no token, or an activation or a gradient was infinite or NaN.
    """

    def of_my_blocks() -> _Pass:
        return _pass_over(
            model, blocks.mine(), groups, GroupSums(groups, roots=roots), batch_size=batch_size, progress=progress
        )

    parts = together(of_my_blocks)
    return finished(model, blocks, groups, merged([part.moments for part in parts])), _saliency_of(groups, parts)


@dataclass(frozen=True, eq=False)
class _Pass:
    """What one process has seen."""

    sums: dict[str, Float[Tensor, "sum neuron"]]
    """Of activation times gradient, for each group."""
    predicted: int
    """Number of tokens that were predicted."""
    moments: dict[str, Moments]
    """Of the activations, where they were asked for."""


def _pass_over(
    model: PreTrainedModel,
    blocks: Blocks,
    groups: Sequence[NeuronGroup],
    moments: GroupSums | None,
    *,
    batch_size: BatchSize,
    progress: bool,
) -> _Pass:
    """Run forwards and backwards over some blocks, and fill the moments too where there are any to fill."""
    sums: dict[str, Float[Tensor, "sum neuron"]] = {}
    seen: list[tuple[NeuronGroup, Reading]] = []
    predicted: list[int] = []
    device = input_device(model)
    batches = Batches(blocks, batch_size)

    def gradients_of(model: PreTrainedModel, inputs: dict[str, Any], asked: Queries | None = None) -> tuple[Tensor, ...]:
        seen.clear()
        with torch.enable_grad():
            logits = model(**inputs | uncached(model)).logits
        return torch.autograd.grad(logits, [reading.values for _, reading in _differentiable(seen)], _at_logits(logits, asked))

    def differentiate(batch: Blocks) -> None:
        asked, counted = batch.queries(), _unless_all(batch.influences())
        gradients = gradients_of(model, batch.inputs(device), asked)
        run = list(_differentiable(seen))
        of_batch = [_of_batch(reading, gradient, counted) for (_, reading), gradient in zip(run, gradients, strict=True)]
        if moments is not None:
            _watch(moments, seen, _unless_all(batch.counted))
        # Added once all are there, as a batch that fails is started again.
        for (group, reading), own in zip(run, of_batch, strict=True):
            _add(sums, group, own, reading.neurons)
        predicted.append(len(asked[1]))

    with (
        blocks.bar("gradients on", progress=progress, kind="gradients") as bar,
        evaluation_mode(model),
        frozen(model),
        _graph_from_embedding(model),
        observed(model, groups, _keep_in(seen)),
        in_step(model, batches.passes(), gradients_of),
    ):
        for batch in batches.run(differentiate if moments is None else moments.whole(differentiate)):
            bar.update(batch.tokens)
    seen.clear()
    release_unused_memory()
    read = {} if moments is None else moments.results(blocks.tokens)
    return _Pass({name: one.cpu() for name, one in sums.items()}, sum(predicted), read)


def _saliency_of(groups: Sequence[NeuronGroup], parts: Sequence[_Pass]) -> dict[str, Saliency]:
    """Put together what all processes have seen."""
    predicted = sum(part.predicted for part in parts)
    return {group.name: _finished(group, [part.sums for part in parts], predicted) for group in groups}


def _unless_all(counted: Bool[Tensor, "*position"]) -> Bool[Tensor, " token"] | None:
    """Which tokens of a batch count; None when all do."""
    return None if bool(counted.all()) else counted.flatten()


@torch.no_grad()
def _at_logits(logits: Float[Tensor, "*position token"], asked: Queries | None) -> Float[Tensor, "*position token"]:
    """The gradient of the summed loss of what is predicted, which some models take otherwise: softmax(z) - onehot(token).

    Taken by hand, since autograd would hold three more tensors as large as the logits. Of a dummy pass, where nothing is
    predicted, any numbers.
    """
    if asked is None:
        return torch.ones_like(logits)
    where, labels = (one.to(logits.device) for one in asked)
    gradient = logits.softmax(-1, dtype=torch.float32).masked_fill_(~where[..., None], 0)
    gradient[(*where.nonzero(as_tuple=True), labels)] -= 1
    return gradient.to(logits.dtype)


def _differentiable(seen: Sequence[tuple[NeuronGroup, Reading]]) -> Iterator[tuple[NeuronGroup, Reading]]:
    """The readings that the loss has a gradient at: a recurrent model may take one through the last of its rounds alone."""
    return ((group, reading) for group, reading in seen if reading.values.requires_grad)


def _keep_in(seen: list[tuple[NeuronGroup, Reading]]) -> Observer:
    """Make an observer that keeps the activations of the batch at hand, with their graph."""

    def keep(group: NeuronGroup, reading: Reading) -> None:
        seen.append((group, reading))

    return keep


def _watch(moments: GroupSums, seen: Sequence[tuple[NeuronGroup, Reading]], counted: Bool[Tensor, " token"] | None) -> None:
    """Add the activations of a batch at the tokens that count, as `collect` does."""
    for group, reading in seen:
        values = replace(reading, values=reading.values.detach())
        moments.add(group, rows_that_count(values, counted), reading.neurons)


def _of_batch(
    reading: Reading, gradient: Float[Tensor, "*token neuron"], counted: Bool[Tensor, " token"] | None
) -> Float[Tensor, "sum neuron"]:
    """The sums of activations times gradients at the tokens of a batch that count."""
    products = reading.values.detach().float() * gradient.float()
    return _sums(rows_that_count(replace(reading, values=products), counted))


def _add(sums: dict[str, Tensor], group: NeuronGroup, own: Float[Tensor, "sum neuron"], neurons: slice) -> None:
    """Add the sums of a batch to those of their group."""
    if group.name not in sums:
        sums[group.name] = torch.zeros(3, group.size, dtype=torch.float64, device=own.device)
    sums[group.name][:, neurons] += own


@contextmanager
def _graph_from_embedding(model: PreTrainedModel) -> Iterator[None]:
    """Start the autograd graph at the embedded tokens, so that it is there whatever the parameters require."""

    def start(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output if output.requires_grad else output.requires_grad_()

    with ExitStack() as hooks:
        hooks.callback(model.get_input_embeddings().register_forward_hook(start).remove)
        yield


def _sums(products: Float[Tensor, "token neuron"]) -> Float[Tensor, "sum neuron"]:
    """Sums over tokens of z g, |z g| and (z g)^2; the products are overwritten, as they are as large as the activations."""
    return torch.stack([products.sum(0), products.abs_().sum(0), products.square_().sum(0)]).double()


def _finished(group: NeuronGroup, parts: list[dict[str, Tensor]], predicted: int) -> Saliency:
    """Add up one group's sums of all processes, refusing those that mean nothing; zeros for an expert that was not run."""
    found = [sums[group.name] for sums in parts if group.name in sums]
    nothing = torch.full((3, group.size), 0.0 if group.experts == 1 else torch.nan, dtype=torch.float64)
    total = torch.stack(found).sum(0) if found else nothing
    if not torch.isfinite(total).all():
        raise StatisticsError(
            f"Gradients at every neuron must be finite, but those of `{group.name}` are missing or hold NaN or infinity. "
            "Load the model in float32 or bfloat16 (`dtype=`), or go by importance alone (candidates=1)."
        )
    first, absolute, second = total
    return Saliency(predicted, first, second, absolute)
