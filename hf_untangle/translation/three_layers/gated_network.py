"""The three-layer network without infinities: find the region, then apply its local model."""

import torch
from huggingface_hub import PyTorchModelHubMixin
from jaxtyping import Float, Int, Int8
from torch import Tensor, nn

from hf_untangle.arguments import checked_calls
from hf_untangle.translation.three_layers.extended_network import ALL, Role, fixed
from hf_untangle.translation.three_layers.regions import Regions


@checked_calls
class GatedNetwork(nn.Module, PyTorchModelHubMixin, library_name="hf_untangle"):
    """Three layers: the signs of all boundaries, the region with the fewest violated tests, its local model.

    It is the half-open form's function wherever one region's tests all hold. Where none do, as in slivers
    that the search left out, the least violated region answers. Its gradient is the local model's slope.
    `save_pretrained`, `from_pretrained` and `push_to_hub` store it in safetensors.
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
        self.output_shape = tuple(output_shape)
        inputs, outputs = (int(torch.Size(shape).numel()) for shape in (input_shape, output_shape))
        self.inputs = inputs
        self.boundary_weight = fixed(torch.zeros(boundaries, inputs, dtype=torch.float64))
        self.boundary_bias = fixed(torch.zeros(boundaries, dtype=torch.float64))
        self.membership = fixed(torch.zeros(regions, boundaries, dtype=torch.int8))
        self.slopes = fixed(torch.zeros(regions, outputs, inputs, dtype=torch.float64))
        self.intercepts = fixed(torch.zeros(regions, outputs, dtype=torch.float64))

    def forward(self, x: Float[Tensor, "point ..."]) -> Float[Tensor, "point ..."]:
        """Evaluate the local model of each point's region.

        Args:
            x: Points.

        Returns:
            The outputs, in the dtype of the weights.
        """
        x = self._flat(x)
        region = self.region(x)
        y = torch.einsum("poi,pi->po", self.slopes[region], x) + self.intercepts[region]
        return y.reshape(x.shape[0], *self.output_shape)

    def region(self, x: Float[Tensor, "point ..."]) -> Int[Tensor, " point"]:
        """Find the region of each point.

        Args:
            x: Points.

        Returns:
            Its number: the first of those with the fewest violated tests.
        """
        values = nn.functional.linear(self._flat(x), self.boundary_weight, self.boundary_bias)
        return violations(values, self.membership).argmin(dim=1)

    def roles(self) -> tuple[Role, ...]:
        """Name the role of every entry of every parameter.

        Returns:
            One block for each parameter.
        """
        return (
            *(Role(name, ALL, ALL, "boundary") for name in ("boundary_weight", "boundary_bias")),
            Role("membership", ALL, ALL, "membership"),
            *(Role(name, ALL, ALL, "local model") for name in ("slopes", "intercepts")),
        )

    def _flat(self, x: Tensor) -> Tensor:
        """Flatten points, in the dtype of the weights."""
        return x.reshape(x.shape[0], self.inputs).to(self.slopes)


def gated_network(regions: Regions) -> GatedNetwork:
    """Write linear regions as a gated network.

    Args:
        regions: The regions.

    Returns:
        The network, in float64.
    """
    network = regions.network
    gated = GatedNetwork(list(network.input_shape), list(network.output_shape), len(regions.boundaries), len(regions))
    gated.boundary_weight.copy_(regions.boundaries[:, :-1])
    gated.boundary_bias.copy_(regions.boundaries[:, -1])
    gated.membership.copy_(regions.membership())
    gated.slopes.copy_(regions.models[..., :-1])
    gated.intercepts.copy_(regions.models[..., -1])
    return gated


def violations(
    values: Float[Tensor, "point boundary"], membership: Int8[Tensor, "region boundary"]
) -> Float[Tensor, "point region"]:
    """Count the tests of each region that do not hold at each point.

    With sides of +1 and -1, the product of a point's sides with a region's tests is its held minus its
    violated tests.

    Args:
        values: boundary . (x, 1) at each point.
        membership: The tests of each region.

    Returns:
        Whole numbers.
    """
    tests = membership.to(torch.promote_types(values.dtype, torch.float32))  # half precision counts to 2,048
    sides = torch.where(values > 0, 1.0, -1.0).to(tests)
    return (tests.abs().sum(dim=1) - sides @ tests.T) / 2
