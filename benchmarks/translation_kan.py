"""The part of `benchmarks/translation.py` about KANs: the same bits, the same function, and what a layer costs."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from hf_untangle.translation.kan.activation_layers import ActivationKANLayer
from hf_untangle.translation.kan.convert import to_kan_
from hf_untangle.translation.kan.kan_to_relu import hinge_form, kan_to_relu
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer, random_kan_layer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan
from hf_untangle.translation.kan.spline_kans import b_splines

ROWS, INPUTS, OUTPUTS, KNOTS = 512, 256, 256, 8
"""The size of the layer that is timed."""

Table = tuple[str, list[str], list[list[str]]]


@torch.no_grad()
def kan_tables() -> Iterator[Table]:
    yield _models()
    yield _forms()
    yield _accuracy()
    yield _speed()


def _models() -> Table:
    rows = []
    for name, make in MODELS.items():
        for dtype in (torch.float32, torch.bfloat16):
            model = make().eval().to(dtype)
            ids = {"input_ids": torch.randint(0, 512, (4, 64))}
            ids |= {"decoder_input_ids": ids["input_ids"]} if model.config.is_encoder_decoder else {}
            before = model(**ids).logits
            after = to_kan_(model)(**ids).logits
            rows.append([name, str(dtype).removeprefix("torch."), *_difference(after, before)])
    return "Logits with KAN layers", ["model", "dtype", "equal to the last bit", "largest difference"], rows


def _forms() -> Table:
    rows = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        network, x = network.to(dtype), 3 * torch.randn(4096, 64).to(dtype)
        for form in ("fused", "shifted", "alternating"):
            kan = relu_to_kan(network, form)
            there, back = kan(x), kan_to_relu(kan)(x)
            expected, name = network(x), str(dtype).removeprefix("torch.")
            rows.append([form, name, *_difference(there, expected), _difference(back, expected)[1]])
    header = ["form", "dtype", "equal to the last bit", "largest difference", "after going back"]
    return "A ReLU network 64-256-256-10 as a KAN", header, rows


def _accuracy() -> Table:
    rows = []
    for knots in (4, 16, 64, 256):
        grid = torch.linspace(0, 1, knots, dtype=torch.float64)[None, None]
        zigzag = (torch.arange(knots) % 2).double()[None, None]
        flat = torch.zeros(1, 1, dtype=torch.float64)
        layer = PiecewiseLinearKANLayer(grid, zigzag, flat, flat)
        x = torch.rand(100_000, 1)
        truth, single = layer(x.double()), layer.float()
        errors = [(form(x) - truth).abs().max().item() for form in (single, hinge_form(single))]
        rows.append([str(knots), *(f"{error:.1e}" for error in errors)])
    return "Float32 error of a zigzag between 0 and 1", ["knots", "by values", "by hinges"], rows


def _speed() -> Table:
    x = torch.randn(ROWS, INPUTS)
    times = {name: _milliseconds(layer, x) for name, layer in _layers()}
    linear = times["Linear"]
    rows = [[name, f"{t:.2f}", f"{t / linear:.1f}"] for name, t in times.items()]
    title = f"Forward pass of a layer, {ROWS} x {INPUTS} to {OUTPUTS}, {KNOTS} knots"
    return title, ["layer", "ms of processor time", "times Linear"], rows


def _layers() -> Iterator[tuple[str, Callable[[Tensor], object]]]:
    linear = nn.Linear(INPUTS, OUTPUTS)
    kan = random_kan_layer(INPUTS, OUTPUTS, torch.linspace(-2, 2, KNOTS))
    yield "Linear", linear
    yield "KAN, scaled ReLUs", ActivationKANLayer(linear, nn.ReLU())
    yield f"KAN, by hinges, {KNOTS} segments", hinge_form(random_kan_layer(INPUTS, OUTPUTS, torch.linspace(-2, 2, KNOTS - 1)))
    yield f"KAN, by hinges, {KNOTS} knots", hinge_form(kan)
    yield f"the matrix product of {KNOTS + 1} hinges alone", partial(_product_of_hinges, kan)
    yield "KAN, by values", kan
    yield "KAN, by values, torch.compile", torch.compile(kan)
    for order in (1, 3):
        yield (
            f"spline, order {order}, bases then one product (as efficient-kan)",
            _spline_layer(order, edges=False),
        )
        yield f"spline, order {order}, every edge on its own (as pykan)", _spline_layer(order, edges=True)
    if find_spec("kan"):
        from kan.KANLayer import KANLayer  # pyright: ignore[reportMissingImports]

        yield "pykan KANLayer, order 3", KANLayer(INPUTS, OUTPUTS, num=KNOTS - 3, k=3)


def _product_of_hinges(kan: PiecewiseLinearKANLayer, x: Tensor, cache: dict[str, Tensor] = {}) -> Tensor:  # noqa: B006
    """What is left of the hinge form when the hinges themselves cost nothing."""
    if not cache:
        cache["hinges"] = x.repeat(1, KNOTS + 1)
        cache["weights"] = hinge_form(kan).weights.flatten(1).contiguous()
    return F.linear(cache["hinges"], cache["weights"])


def _spline_layer(order: int, edges: bool) -> Callable[[Tensor], Tensor]:
    """A spline layer with SiLU as base and as many basis functions as there are knots."""
    step = 4 / (KNOTS - order)
    grid = (torch.arange(-order, KNOTS + 1) * step - 2).expand(INPUTS, -1)
    weights, base = torch.randn(OUTPUTS, INPUTS, KNOTS), torch.randn(OUTPUTS, INPUTS)

    def forward(x: Tensor) -> Tensor:
        bases = b_splines(x.T, grid, order).transpose(0, 1)
        if edges:
            return (torch.einsum("rib,oib->roi", bases, weights) + F.silu(x).unsqueeze(1) * base).sum(-1)
        return F.linear(bases.flatten(1), weights.flatten(1)) + F.linear(F.silu(x), base)

    return forward


def _opt(norm_before: bool) -> PreTrainedModel:
    sizes = {"hidden_size": 256, "ffn_dim": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    return OPTForCausalLM(OPTConfig(vocab_size=512, **sizes, do_layer_norm_before=norm_before))


def _t5() -> PreTrainedModel:
    sizes = {"d_model": 256, "d_ff": 1024, "num_layers": 3, "num_heads": 4, "d_kv": 64}
    return T5ForConditionalGeneration(T5Config(vocab_size=512, **sizes))


def _m2m100() -> PreTrainedModel:
    sizes = {"encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "encoder_layers": 3, "decoder_layers": 3}
    return M2M100ForConditionalGeneration(M2M100Config(vocab_size=512, d_model=256, **sizes))


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "OPT, norm in front": lambda: _opt(True),
    "OPT, norm behind": lambda: _opt(False),
    "T5": _t5,
    "M2M-100": _m2m100,
}


def _difference(one: Tensor, other: Tensor) -> tuple[str, str]:
    return "yes" if torch.equal(one, other) else "no", f"{(one - other).abs().max().item():.1e}"


def _milliseconds(layer: Callable[[Tensor], object], x: Tensor, repeats: int = 15) -> float:
    """The shortest processor time of a call, after two to warm up: other programs do not count."""
    times = []
    for _ in range(repeats + 2):
        start = time.process_time()
        layer(x)
        times.append(1000 * (time.process_time() - start))
    return min(times[2:])
