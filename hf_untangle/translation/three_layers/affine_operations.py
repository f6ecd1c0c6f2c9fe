"""Operations of PyTorch by what is known of them: affine, or certainly not piecewise linear.

Names are those of PyTorch's exported graphs. Operations that bend are in `piecewise_linear`; what is in no table is not
supported, which says nothing about the function.
"""

from collections.abc import Sequence
from typing import Any

from hf_untangle.translation.three_layers.affine_forms import AffineForm
from hf_untangle.translation.three_layers.graphs import SPLITS, VIEWS

SUMS = {"add", "sub", "subtract", "rsub"} | {
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack")
}
"""Linear in all arguments together."""

MAPS = {"linear", "matmul", "mm", "bmm", "mv", "dot", "einsum", "outer", "tensordot"} | {
    *(f"conv{transposed}{n}d" for n in (1, 2, 3) for transposed in ("", "_transpose")),
    *("batch_norm", "bilinear", "linalg_multi_dot"),
}
"""Affine in one argument while the others are constant."""

ADDED_PRODUCTS = {"addmm", "addmv", "baddbmm", "addcmul"}
"""Of three arguments, the first one plus the product of the others."""

SCALES = {"mul", "multiply", "neg", "negative", "positive", "masked_fill", "cumsum", "diff", "tril", "triu", "trace"}

MEANS = {"mean", "sum"} | {f"{adaptive}avg_pool{n}d" for n in (1, 2, 3) for adaptive in ("", "adaptive_")}

COPIES = {"clone", "detach", "index_select", "index", "gather", "take_along_dim", "flip", "roll", "rot90", "repeat", "tile"} | {
    *("repeat_interleave", "pad", "constant_pad_nd", "im2col", "col2im", "unfold"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
}

AFFINE = MAPS | SCALES | MEANS | COPIES | VIEWS | SPLITS

QUOTIENTS = {"div", "divide", "true_divide"}

CONVERSIONS = {"to", "type_as"}
"""Give a tensor another dtype or device, which nothing here depends on."""

CURVED = {
    *("celu", "elu", "gelu", "glu", "hardswish", "log_sigmoid", "mish", "selu", "sigmoid", "silu", "softmax", "log_softmax"),
    *("softplus", "tanh", "erf", "exp", "expm1", "log", "log1p", "log2", "log10", "logsumexp", "logaddexp"),
    *("sin", "cos", "tan", "atan", "sinh", "cosh", "sqrt", "rsqrt", "reciprocal", "square"),
    *(
        "group_norm",
        "instance_norm",
        "layer_norm",
        "rms_norm",
        "var",
        "std",
        "scaled_dot_product_attention",
        "cosine_similarity",
    ),
}
"""Curved somewhere, whatever their arguments."""

JUMPING = {"sign", "sgn", "heaviside", "floor", "ceil", "round", "trunc", "frac", "hardshrink"}
"""Linear between their jumps, but not continuous."""


def is_affine(name: str, args: Sequence[Any], kwargs: dict[str, Any], forms: int) -> bool:
    """Say whether an operation is affine in the forms among its arguments.

    Args:
        name: Its name.
        args: Its arguments.
        kwargs: Its keyword arguments.
        forms: How many affine forms there are among them.

    Returns:
        True if it certainly is.
    """
    if name in QUOTIENTS:  # linear in its numerator, and only without rounding
        return forms == 1 and isinstance(args[0], AffineForm) and kwargs.get("rounding_mode") is None
    if name == "where":  # linear in what it chooses from
        return not isinstance(args[0], AffineForm)
    if name == "lerp":
        return not isinstance(args[2], AffineForm)
    if name in ADDED_PRODUCTS:
        return sum(isinstance(factor, AffineForm) for factor in args[1:3]) < 2
    if name == "instance_norm":  # of a whole instance, unless it has running statistics
        return forms == 1 and args[5] is False
    return name in SUMS or (name in AFFINE and forms == 1)


def reason_against(name: str) -> str:
    """Say why an operation cannot be read, and no more than is known.

    Args:
        name: The name of an operation that is neither affine nor in `PIECEWISE_LINEAR`.

    Returns:
        The end of a sentence that begins with what computes it.
    """
    if name in CURVED:
        return "which is not piecewise linear, so the network has no exact linear regions"
    if name in JUMPING:
        return "which is not continuous, so the network is no network of ReLUs"
    return "which is not supported"
