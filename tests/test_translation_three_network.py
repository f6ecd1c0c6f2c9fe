"""A module read as a network of ReLU neurons computes the same function, or is refused by name."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import OPTConfig, T5Config
from transformers.models.opt.modeling_opt import OPTDecoderLayer
from transformers.models.t5.modeling_t5 import T5DenseActDense

from hf_untangle.errors import BudgetError, ConfigError, TranslationError
from hf_untangle.translation.three_layers.network import activation_pattern, half_spaces, local_model
from hf_untangle.translation.three_layers.read_network import read_network


def mlp(*widths: int, activation: nn.Module | None = None) -> nn.Sequential:
    """A seeded MLP in float64."""
    torch.manual_seed(0)
    layers = [(nn.Linear(i, o), activation or nn.ReLU()) for i, o in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*[part for pair in layers for part in pair][:-1]).double()


def points(*shape: int) -> torch.Tensor:
    """Seeded points in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2


class Residual(nn.Module):
    """Convolution, BatchNorm, in-place ReLU, a residual addition, max-pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(2), nn.ReLU(inplace=True)
        self.pool, self.drop, self.head = nn.MaxPool2d(3, 2, padding=1), nn.Dropout(), nn.Linear(2 * 3 * 3, 4)
        self.norm.running_mean.copy_(torch.randn(2))
        self.norm.running_var.copy_(torch.rand(2) + 0.5)

    def forward(self, x):
        hidden = self.relu(self.norm(self.first(x)))
        hidden += self.second(hidden)
        return self.head(self.drop(self.pool(functional.relu_(hidden)).flatten(1)))


class Function(nn.Module):
    """Any function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.forward = function


class Calls(nn.Module):
    """A linear map and then any function of it."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.function = nn.Linear(3, 4), function

    def forward(self, x):
        return self.function(self.linear(x))


PIECEWISE = {
    "relu": functional.relu,
    "relu6": lambda z: functional.relu6(z * 4),
    "leaky_relu": lambda z: functional.leaky_relu(z, 0.3),
    "prelu": lambda z: functional.prelu(z, torch.tensor([0.1, -0.2, 0.3, 2.0], dtype=z.dtype)),
    "rrelu": functional.rrelu,
    "hardtanh": functional.hardtanh,
    "hardsigmoid": lambda z: functional.hardsigmoid(z * 3),
    "softshrink": functional.softshrink,
    "clamp": lambda z: z.clamp(-0.5, 0.25),
    "clamp_min": lambda z: z.clamp_min(0.2),
    "clamp_max": lambda z: z.clamp_max(0.2),
    "abs": torch.abs,
    "maximum": lambda z: torch.maximum(z, z.flip(1)),
    "minimum with a constant": lambda z: torch.minimum(torch.full((4,), 0.5, dtype=z.dtype), z),
    "maxout": lambda z: z.reshape(-1, 2, 2).amax(1),
    "max_pool1d": lambda z: functional.max_pool1d(z[:, None], 3, 2, padding=1, ceil_mode=True)[:, 0],
    "clip": lambda z: z.clip(-0.5, 0.25),
    "amin": lambda z: z.amin(1, keepdim=True),
    "max of two": lambda z: torch.max(z, z.flip(1)),
    "max along a dimension": lambda z: z.max(-1).values,
    "min along a dimension": lambda z: torch.min(z, 1, keepdim=True)[0],
    "fmax": lambda z: torch.fmax(z, -z),
    "threshold": lambda z: functional.threshold(z, 0.3, 0.3),
    "largest norm": lambda z: torch.linalg.vector_norm(z, float("inf"), 1),
    "norm of absolute values": lambda z: torch.linalg.vector_norm(z, 1, -1, keepdim=True),
    "adaptive_max_pool1d": lambda z: functional.adaptive_max_pool1d(z[:, None], 3)[:, 0],
    "dilated max_pool1d": lambda z: functional.max_pool1d(z[:, None], 2, 1, padding=1, dilation=3)[:, 0],
    "chunk": lambda z: z.chunk(2, 1)[0] - 2 * z.chunk(2, 1)[1].relu(),
    "split": lambda z: z.split([1, 3], 1)[1].relu(),
    "unbind": lambda z: z.unbind(1)[2][:, None].abs(),
    "indices": lambda z: z[:, [2, 0]].relu() + z[..., 1:3],
    "where": lambda z: torch.where(torch.tensor([True, False, True, False]), z.relu(), -z),
    "masked": lambda z: z.relu().masked_fill(torch.tensor([True, False, False, True]), 2.0),
    "lerp": lambda z: torch.lerp(z, z.relu(), 0.3),
    "addcmul": lambda z: torch.addcmul(z.relu(), z, torch.arange(4).to(z)),
    "repeat": lambda z: z.repeat(1, 2).relu().cumsum(1).diff(),
    "einsum": lambda z: torch.einsum("bi,ij->bj", z.relu(), torch.arange(8.0).reshape(4, 2).to(z)),
    "reflection": lambda z: functional.pad(z[:, None].relu(), (2, 1), mode="reflect")[:, 0],
    "upsampling": lambda z: functional.interpolate(z[:, None].relu(), scale_factor=2, mode="linear")[:, 0],
    "another dtype": lambda z: z.to(torch.float64).relu().type_as(z),
    "skip": lambda z: torch.cat([z, 2 - functional.relu(z) / 3], dim=1) * 0.5,
    "linear": lambda z: -z,
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_every_piecewise_linear_operation_is_read_as_the_same_function(name):
    module, x = Calls(PIECEWISE[name]).double().eval(), points(200, 3)
    torch.testing.assert_close(read_network(module)(x), module(x).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", [(2,), (3, 2), (3, 2, 1), (3, 1, 1), (2, 2, 0, 1, False, True)])
def test_max_pooling_is_read_with_its_windows(settings):
    pool = nn.Sequential(nn.MaxPool2d(*settings))
    x = points(20, 2, 5, 5)
    torch.testing.assert_close(read_network(pool, (2, 5, 5))(x.float()), pool(x.float()).double())


def test_a_residual_convolutional_network_is_read():
    module, x = Residual().double().eval(), points(50, 1, 5, 5)
    network = read_network(module, input_shape=(1, 5, 5))
    torch.testing.assert_close(network(x), module(x).detach(), rtol=1e-12, atol=1e-12)
    assert network.names[0] == "`relu` (ReLU)" and network.widths[0] == 2 * 5 * 5


def test_the_feed_forward_blocks_of_t5_and_opt_are_read():
    torch.manual_seed(0)
    t5 = T5DenseActDense(T5Config(d_model=6, d_ff=9)).eval()
    opt = OPTDecoderLayer(OPTConfig(hidden_size=6, ffn_dim=9, num_attention_heads=2)).eval()
    x = points(20, 6).float()
    torch.testing.assert_close(read_network(t5)(x).float(), t5(x).detach())
    ffn = nn.Sequential(opt.fc1, opt.activation_fn, opt.fc2)
    torch.testing.assert_close(read_network(ffn)(x).float(), ffn(x).detach())


def test_the_weights_of_an_mlp_are_read_without_rounding():
    module = mlp(3, 5, 2)
    network = read_network(module)
    assert torch.equal(network.layers[0][0], torch.cat([module[0].weight, module[0].bias[:, None]], 1))
    assert torch.equal(network.output[1], module[2].weight)
    assert torch.equal(network.output[0][:, -1], module[2].bias)


def test_reading_does_not_change_the_module():
    module = Residual().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    read_network(module, (1, 5, 5))
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_the_local_model_is_the_network_and_its_gradient_around_a_point():
    module = mlp(3, 6, 5, 2)
    network, x = read_network(module), points(1, 3)
    model = local_model(network, activation_pattern(network, x)[0])
    torch.testing.assert_close(model[:, :-1] @ x[0] + model[:, -1], module(x)[0].detach())
    gradient = torch.func.jacrev(module)(x[0])
    torch.testing.assert_close(model[:, :-1], gradient.detach())


def test_half_spaces_are_the_pre_activations_around_a_point():
    module = mlp(3, 6, 5, 2)
    network, x = read_network(module), points(1, 3)
    rows = half_spaces(network, activation_pattern(network, x)[0])
    first = module[0](x)
    expected = torch.cat([first, module[2](first.relu())], dim=1)[0].detach()
    torch.testing.assert_close(rows @ network.homogeneous(x)[0], expected)


def test_a_batch_of_patterns_is_composed_at_once():
    network = read_network(mlp(3, 6, 5, 2))
    patterns = activation_pattern(network, points(4, 3))
    for compose in (half_spaces, local_model):
        one_by_one = torch.stack([compose(network, pattern) for pattern in patterns])
        torch.testing.assert_close(compose(network, patterns), one_by_one)


def test_a_neuron_at_zero_is_inactive():
    module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    module[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([[0.0], [1.0], [-1.0]])
    pattern = activation_pattern(read_network(module), x)
    assert pattern.tolist() == [[False, False], [True, False], [False, True]]


def test_a_network_by_hand():
    module = nn.Sequential(nn.Linear(1, 1), nn.LeakyReLU(0.5))
    module[0].weight.data.fill_(2.0)
    module[0].bias.data.fill_(-4.0)
    network = read_network(module)
    assert network(torch.tensor([[0.0], [3.0]])).tolist() == [[-2.0], [2.0]]
    assert half_spaces(network, torch.tensor([True])).tolist() == [[2.0, -4.0]]
    assert local_model(network, torch.tensor([False])).tolist() == [[1.0, -2.0]]


def test_a_network_can_be_moved_to_another_dtype():
    network = read_network(mlp(3, 6, 2)).to(torch.float32)
    assert network(points(4, 3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.GELU(), r"`1` \(GELU\) computes `gelu`, which is not piecewise linear, so"),
        (nn.LayerNorm(4), r"`1` \(LayerNorm\) computes `layer_norm`"),
        (nn.Softmax(-1), r"`1` \(Softmax\) computes `softmax`"),
        (nn.Hardswish(), r"`1` \(Hardswish\) computes `hardswish`"),
        (nn.Hardshrink(), r"`1` \(Hardshrink\) computes `hardshrink`, which is not continuous"),
        (nn.Threshold(1.0, 0.0), "A threshold of 1 with the value 0 below it jumps"),
        (Calls(lambda z: z * z), r"`1` \(Calls\) computes `mul`, which is not supported. Translate the part before it"),
        (Calls(lambda z: z.sort(1).values), r"`1` \(Calls\) computes `sort`, which is not supported"),
        (Calls(lambda z: z + z.max(1, keepdim=True).indices), "uses the position of a maximum"),
        (Calls(lambda z: torch.linalg.vector_norm(z, 2, 1)), "this one has order 2"),
        (
            nn.BatchNorm1d(4, track_running_stats=False),
            r"`1` \(BatchNorm1d\) has no running statistics, so in evaluation mode too",
        ),
        (Calls(lambda z: 1 / z), r"`1` \(Calls\) computes `"),
        (Calls(lambda z: torch.div(z, 2, rounding_mode="floor")), r"`1` \(Calls\) computes `div`"),
        (nn.Dropout(), r"`1` \(Dropout\) is in training mode"),
        (nn.BatchNorm1d(4), r"`1` \(BatchNorm1d\) is in training mode"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True)), "in place on a tensor that shares its memory"),
        (Calls(lambda z: (z, z)), "must return one tensor"),
        (nn.Linear(4, 4).bfloat16(), "must have one dtype"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(part, message):
    first = nn.Linear(3, 3 if isinstance(part, Calls) else 4)
    with pytest.raises(TranslationError, match=message):
        read_network(nn.Sequential(first, part))


def test_norms_without_statistics_are_refused_for_what_they_are():
    images = (2, 5)
    as_module = nn.BatchNorm1d(2, track_running_stats=False).eval()
    as_function = Function(lambda z: functional.batch_norm(z, None, None, training=True))
    for module in (as_module, as_function):
        with pytest.raises(TranslationError, match="has no running statistics, so in evaluation mode too"):
            read_network(module, images)
    with pytest.raises(TranslationError, match=r"\(InstanceNorm1d\) computes `instance_norm`, which is not piecewise linear"):
        read_network(nn.Sequential(nn.Conv1d(2, 4, 1), nn.InstanceNorm1d(4)).eval(), images)


MODULES = {
    "transposed 1": (nn.ConvTranspose1d(2, 3, 2, stride=2), (2, 4)),
    "transposed 2": (nn.ConvTranspose2d(1, 2, 3, stride=2, output_padding=1, bias=False), (1, 3, 3)),
    "dilated pooling": (nn.MaxPool2d(2, stride=1, dilation=2, padding=1), (1, 4, 5)),
    "adaptive pooling": (nn.AdaptiveMaxPool2d((2, 3)), (1, 5, 5)),
    "adaptive means": (nn.AdaptiveAvgPool3d(2), (1, 3, 3, 3)),
    "shuffled pixels": (nn.PixelShuffle(2), (4, 2, 2)),
    "upsampling": (nn.Upsample(scale_factor=2, mode="bilinear"), (1, 3, 3)),
    "instance norm": (nn.InstanceNorm1d(2, affine=True, track_running_stats=True), (2, 3)),
    "alpha dropout": (nn.AlphaDropout(), (3,)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_before_and_behind_a_relu_are_read(name):
    part, shape = MODULES[name]
    module = nn.Sequential(part, nn.ReLU()).double().eval()
    x = points(30, *shape)
    torch.testing.assert_close(read_network(module, shape)(x), module(x).detach(), rtol=1e-10, atol=1e-10)


MIXED = {
    "mean": lambda z: z - z.mean(0, keepdim=True),
    "largest": lambda z: z.amax(0, keepdim=True) + z,
    "order": lambda z: z.flip(0),
    "neighbor": lambda z: z + z.roll(1, 0),
    "sum": lambda z: z.sum(0),
    "one of them": lambda z: z[:1],
    "number": lambda z: z * len(z),
    "joined": lambda z: z.reshape(1, -1),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_that_mixes_the_points_of_a_batch_is_refused(name, dtype):
    with pytest.raises(TranslationError, match="must treat each point of a batch on its own, but"):
        read_network(Calls(lambda z: MIXED[name](z).relu()).to(dtype))


def test_a_module_that_takes_one_point_only_is_refused():
    with pytest.raises(TranslationError, match="must take a batch of points, got RuntimeError"):
        read_network(Calls(lambda z: z.reshape(1, 4).relu()))


def test_a_module_that_decides_in_python_or_by_chance_is_refused():
    calls = []

    def other_each_time(z):
        calls.append(None)
        return z.relu() * (len(calls) % 3)

    for function in (lambda z: z + torch.rand(4), other_each_time):
        state = torch.random.get_rng_state()
        with pytest.raises(TranslationError, match="gives other outputs"):
            read_network(Calls(function))
        assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("widths", [(3, 0, 2), (0, 4, 2), (3, 4, 0), (3, 4, 0, 2)])
def test_layers_of_no_width_are_read(widths):
    module, x = mlp(*widths), points(5, widths[0])
    torch.testing.assert_close(read_network(module)(x), module(x).detach())
    assert read_network(module)(x[:0]).shape == (0, widths[-1])


def test_a_module_that_insists_on_its_dtype_is_compared_in_it():
    module = Calls(lambda z: z.relu() @ torch.ones(4, 2)).float()
    assert read_network(module).widths == (4,)


def test_a_tensor_too_large_for_matrices_is_refused():
    with pytest.raises(BudgetError, match="A tensor of 25088 numbers is too large"):
        read_network(nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()), (1, 28, 28))


def test_weights_that_are_not_finite_are_refused():
    module = mlp(2, 3, 1)
    module[0].bias.data[1] = float("nan")
    with pytest.raises(TranslationError, match="`0.bias` holds infinity or NaN"):
        read_network(module)


def test_an_input_shape_that_cannot_be_known_is_asked_for():
    with pytest.raises(ConfigError, match="Pass input_shape"):
        read_network(nn.Sequential(nn.Conv1d(1, 1, 3)))


def test_a_module_that_branches_on_its_input_is_refused():
    with pytest.raises(ConfigError, match="cannot be traced on an input of shape"):
        read_network(Calls(lambda z: z if z.sum() > 0 else -z))
