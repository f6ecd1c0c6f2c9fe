"""Rotating the neurons of attention heads onto their principal directions, which changes no output.

What a head writes depends on its value and output projections only through their product, so any invertible matrix may stand
between the two. The singular value decomposition makes neurons of a head orthogonal and sorts them by what they can carry, so
that removing single ones takes less along (the option `svd` of selective pruning, Pochinkov and Schoots 2024,
arXiv:2403.01267).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hf_untangle.architecture.commit import commit, keep_values
from hf_untangle.architecture.dummy_inputs import dummy_inputs
from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.neurons import NeuronGroup
from hf_untangle.architecture.projections import matrix_of
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.errors import ArchitectureError
from hf_untangle.masks.removal import check_in_memory

NEGLIGIBLE = 1e-9
"""Singular values below this share of the largest count as zero."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 5e-2}
"""Largest norm of the difference of outputs, relative to their own: far above rounding, far below any mistake."""


@checked_arguments
@all_or_nothing
@torch.no_grad()
def rotate_heads_(model: nn.Module | ModelName, groups: tuple[NeuronGroup, ...]) -> nn.Module:
    """Put the singular value decomposition between the value and the output projection of every attention head.

    With W_O W_V = U S V^T for one head, W_O becomes U sqrt(S) and W_V becomes sqrt(S) V^T; the value bias b becomes b' with
    U sqrt(S) b' = W_O b. Under grouped queries, which the method's paper leaves out, the output projections of the query heads
    that share a value head are stacked, and rotated together. Logits stay the same up to the rounding of the weights' dtype.

    Args:
        model: The model, changed in place. All of it is checked before any of it is written to. A name or path is loaded.
        groups: Its neuron groups; FFNs stay as they are.

    Returns:
        The same model.

    Raises:
        ArchitectureError: Values pass through more than these two projections, so that no rotation leaves outputs as they are.
        MaskError: The weights cannot be edited.
    """
    model = opened(model)
    heads = [group for group in groups if group.kind == "attention"]
    check_in_memory(model, tuple(heads))
    for group in heads:
        _check_values_alone(group)
    before = _output(model)
    with commit() as undo:
        keep_values(undo, (one for group in heads for one in _parameters(model, group)))
        for group in heads:
            _rotate(model, group)
        after = _output(model)
        if not float((after - before).norm()) <= TOLERANCE[after.dtype] * float(before.norm()):
            raise ArchitectureError(
                f"Rotated heads must leave the outputs of {type(model).__name__} as they are, but they do not: something "
                "stands between values and output projections. The model is as it was; rotate models of plain attention only."
            )
        return model


def _check_values_alone(group: NeuronGroup) -> None:
    """Refuse heads whose neurons other rows than those of values compute too."""
    alone = len(group.producers) == 1 and group.head_size is not None
    if not alone or len(group.producers[0].rows.unique()) % (group.head_size or 1):
        raise ArchitectureError(
            f"The neurons of `{group.name}` must be computed by value rows alone to be rotated, but {len(group.producers)} "
            "projections compute each of them. Rotate models of plain attention only."
        )


def _parameters(model: nn.Module, group: NeuronGroup) -> list[Tensor]:
    """What rotation writes to."""
    values = matrix_of(model, group.producers[0].name)
    return [matrix_of(model, group.name).parameter, values.parameter, *([] if values.bias is None else [values.bias])]


def _output(model: nn.Module) -> Tensor:
    """What the model says to a few tokens, all different."""
    inputs = dummy_inputs(model, 1)
    if "input_ids" in inputs:
        inputs["input_ids"] = inputs["input_ids"].cumsum(-1)
    with evaluation_mode(model):
        return model(**inputs)[0]


def _rotate(model: nn.Module, group: NeuronGroup) -> None:
    """Rotate the heads of one group, value head by value head."""
    reads, values = matrix_of(model, group.name).weight[0], matrix_of(model, group.producers[0].name)
    size = group.head_size
    assert size is not None
    rows_of_heads = group.producers[0].rows.view(-1, size)
    for first in rows_of_heads[:, 0].unique():
        sharing = (rows_of_heads[:, 0] == first).nonzero().flatten()
        rows = rows_of_heads[sharing[0]]
        columns = (sharing[:, None] * size + torch.arange(size)).to(reads.device)
        stacked = torch.cat([reads[:, one].double() for one in columns])
        bias = None if values.bias is None else values.bias[0, rows].double()
        outputs, inputs, shift = _rotated(stacked, values.weight[0, rows].double(), bias)
        for one, part in zip(columns, outputs.chunk(len(columns)), strict=True):
            reads[:, one] = part.to(reads)
        values.weight[0, rows] = inputs.to(reads)
        if values.bias is not None and shift is not None:
            values.bias[0, rows] = shift.to(reads)


def _rotated(
    reads: Float[Tensor, "output head"], values: Float[Tensor, "head input"], bias: Float[Tensor, " head"] | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rotated projections, by a decomposition no larger than the head: of the triangles of both."""
    left, left_triangle = torch.linalg.qr(reads)
    right, right_triangle = torch.linalg.qr(values.T)
    u, s, vh = torch.linalg.svd(left_triangle @ right_triangle.T)
    root = s.sqrt()
    inverse = torch.where(s > NEGLIGIBLE * s[0], 1 / root, 0)
    shift = None if bias is None else inverse * (u.T @ (left_triangle @ bias))
    return left @ u * root, root[:, None] * (vh @ right.T), shift
