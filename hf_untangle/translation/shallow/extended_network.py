"""A network of three affine maps over the extended reals."""

from collections.abc import Callable

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from hf_untangle.errors import TranslationError
from hf_untangle.translation.shallow.extended import ExtendedLinear, TwoSidedLinear
from hf_untangle.translation.shallow.roles import ALL, Role


class ThreeLayerNetwork(nn.Module, PyTorchModelHubMixin, library_name="hf_untangle"):
    """Three affine maps over the extended reals with a ReLU after the first and the second.

    `save_pretrained`, `from_pretrained` and `push_to_hub` store it in safetensors, infinities included.
    """

    def __init__(self, input_shape: list[int], output_shape: list[int], boundaries: int, regions: int) -> None:
        """Make a network of zeros.

        Args:
            input_shape: Shape of one input, without the batch.
            output_shape: Shape of one output, without the batch.
            boundaries: Number of rows whose signs the regions test.
            regions: Number of regions.
        """
        super().__init__()
        self.output_shape, self.boundaries, self.regions = tuple(output_shape), boundaries, regions
        self.inputs, self.outputs = (int(torch.Size(shape).numel()) for shape in (input_shape, output_shape))
        self.first = TwoSidedLinear(self.inputs, self.inputs + boundaries)
        self.second = ExtendedLinear(2 * (self.inputs + boundaries), regions * self.outputs * 2)
        self.third = ExtendedLinear(regions * self.outputs * 2, self.outputs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ThreeLayerNetwork":
        """Refuse a dtype in which finite weights would be infinite, as infinite ones silence regions."""
        for name, weight in self.named_parameters():
            if not weight.is_meta and not torch.equal(fn(weight).isinf().to(weight.device), weight.isinf()):
                raise TranslationError(
                    f"`{name}` holds finite numbers that are infinite in {fn(weight).dtype}, and infinite weights mean "
                    "something else here. Use bfloat16, or scale the inputs or outputs of the network."
                )
        return super()._apply(fn, recurse)

    def forward(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point ..."]:
        """Evaluate the three layers.

        Args:
            x: Points.

        Returns:
            The outputs, in the dtype of the weights.
        """
        return self.third(self.units(x).flatten(1)).reshape(x.shape[0], *self.output_shape)

    def units(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point region output 2"]:
        """Evaluate the second layer.

        Args:
            x: Points.

        Returns:
            The positive and the negative part of each output of each region, 0 where the region is silenced.
        """
        return self.second(self._sides(x)).relu().unflatten(1, (self.regions, self.outputs, 2))

    def multiplicity(self, x: Float[Tensor, "point ..."]) -> Int[Tensor, " point"]:
        """Count the regions that accept each point.

        Args:
            x: Points.

        Returns:
            The number of regions that no membership weight silences: 1 in the half-open form, and more on
            boundaries in the closed form.
        """
        violated = (self._sides(x) > 0).double()
        silencing = self.second.weight.isinf().unflatten(0, (self.regions, -1))[:, 0].double()
        return (violated @ silencing.T == 0).sum(dim=1)

    def roles(self) -> tuple[Role, ...]:
        """Name the role of every entry of every parameter.

        Returns:
            Blocks that cover each parameter, without overlap.
        """
        inputs, rows = slice(0, self.inputs), slice(self.inputs, self.inputs + self.boundaries)
        other = self.inputs + self.boundaries
        other_inputs, other_rows = slice(other, other + self.inputs), slice(other + self.inputs, None)
        first = ("first.weight", "first.bias", "first.gain", "first.offset")
        return (
            *(Role(name, inputs, ALL, "carry") for name in first),
            *(Role(name, rows, ALL, "boundary") for name in first),
            *(Role("second.weight", ALL, columns, "local model") for columns in (inputs, other_inputs)),
            *(Role("second.weight", ALL, columns, "membership") for columns in (rows, other_rows)),
            Role("second.bias", ALL, ALL, "local model"),
            *(Role(name, ALL, ALL, "assembly") for name in ("third.weight", "third.bias")),
        )

    def _sides(self, x: Tensor) -> Tensor:
        """Evaluate the first layer."""
        return self.first(x.reshape(x.shape[0], self.inputs).to(self.first.weight)).relu()
