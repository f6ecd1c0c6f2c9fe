"""Translations written into a folder, with what was measured on the way: networks of files, and checkpoints of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
import transformers
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.by_name import Loading
from hf_untangle.errors import ArchitectureError, ConfigError
from hf_untangle.packaged import check_revision
from hf_untangle.ragged import enable_ragged_checkpoints
from hf_untangle.translation.digits_network import digits_network
from hf_untangle.translation.kan.activation_layers import KANLayer, kan_layers
from hf_untangle.translation.kan.block_page import feed_forward_page
from hf_untangle.translation.kan.convert import NOTE, kan_layers_of, outputs_on, to_kan_, to_relu_, token_ids
from hf_untangle.translation.kan.edges import count_edges
from hf_untangle.translation.kan.kan_files import holds_kan, load_kan, save_kan
from hf_untangle.translation.kan.kan_to_relu import kan_to_relu
from hf_untangle.translation.kan.pictures import MOST_EDGES, plot_network
from hf_untangle.translation.kan.piecewise_linear_layer import PiecewiseLinearKANLayer
from hf_untangle.translation.kan.relu_to_kan import relu_to_kan
from hf_untangle.translation.linear_weights import checked_dtype
from hf_untangle.translation.mlp_files import load_mlp, save_mlp
from hf_untangle.translation.three_layers.enumeration import all_regions
from hf_untangle.translation.three_layers.region_maps import plot_regions
from hf_untangle.translation.three_layers.rules import decision_rules, rules_table
from hf_untangle.translation.three_layers.three_layer import as_three_layers

POINTS = 10_000
"""At how many random points of the box the two networks are compared."""


@dataclass(frozen=True, eq=False)
class Original:
    """A network to rewrite, and data to show it on."""

    network: nn.Module
    """The network, or a KAN."""
    data: Float[Tensor, "point input"] | None = None
    """Data of its inputs, if there is any."""
    labels: Int[Tensor, " point"] | None = None
    """The class of each point of the data."""


@dataclass(frozen=True)
class TranslationOutput:
    """What was measured, and what was written."""

    measured: dict[str, Any]
    """Numbers by what they are."""
    files: tuple[str, ...]
    """The names of the files in the folder."""


def read_original(name: str) -> Original:
    """Read the network to rewrite.

    Args:
        name: A file with a multilayer perceptron or a KAN, or `digits` for a small classifier that is trained first.

    Returns:
        The network.
    """
    if name == "digits":
        digits = digits_network()
        return Original(digits.network, digits.x, digits.labels)
    return Original(load_kan(name) if holds_kan(name) else load_mlp(name))


@torch.no_grad()
def write_kan(original: Original, form: Any, box: tuple[float, float], folder: Path) -> TranslationOutput:
    """Rewrite a network as a piecewise linear KAN.

    Args:
        original: The network.
        form: As for `relu_to_kan`.
        box: Where random inputs are drawn to compare the two.
        folder: Where to write `kan.safetensors` and, if it is small enough, `network.png`.

    Returns:
        What was measured and written.
    """
    kan = relu_to_kan(original.network, form)
    save_kan(kan, folder / "kan.safetensors")
    files = ["kan.safetensors"]
    x = _points(original.network, box)
    widths = [kan_layers(kan)[0].in_features, *(layer.out_features for layer in kan_layers(kan))]
    if sum(n * m for n, m in pairwise(widths)) <= MOST_EDGES:
        plot_network(kan, x if original.data is None else original.data.to(x)).savefig(folder / "network.png")
        files.append("network.png")
    sizes = {"KAN layers": len(kan), "edges that are not zero": count_edges(kan)}
    return TranslationOutput(_compared(original.network, kan, x) | sizes, tuple(files))


@torch.no_grad()
def write_relu(original: Original, box: tuple[float, float], folder: Path) -> TranslationOutput:
    """Rewrite a KAN, or a network with other piecewise linear activations, as a multilayer perceptron with ReLUs.

    Args:
        original: The network.
        box: Where random inputs are drawn to compare the two.
        folder: Where to write the state dict, `network.safetensors`.

    Returns:
        What was measured and written.
    """
    is_kan = all(isinstance(module, KANLayer) for module in original.network.children())
    kan = original.network if is_kan else relu_to_kan(original.network)
    network = kan_to_relu(kan, factored=False)
    save_mlp(network, folder / "network.safetensors")
    hidden = [module.in_features for module in network if isinstance(module, nn.Linear)][1:]
    measured = _compared(original.network, network, _points(original.network, box))
    return TranslationOutput(measured | {"hidden neurons": hidden}, ("network.safetensors",))


@torch.no_grad()
def write_three_layers(
    original: Original, form: Any, box: tuple[float, float], folder: Path, **search: Any
) -> TranslationOutput:
    """Rewrite a network as three layers over the extended reals.

    Args:
        original: The network.
        form: As for `three_layer`.
        box: The box of inputs that is translated.
        folder: Where to write the checkpoint, the decision rules and, of two inputs, a map of the regions.
        **search: The settings of `all_regions`.

    Returns:
        What was measured and written.
    """
    regions = all_regions(original.network, box, **search)
    layers = as_three_layers(regions, form)
    layers.save_pretrained(folder)
    rules = rules_table(decision_rules(regions, original.data))
    (folder / "rules.md").write_text(rules + "\n", encoding="utf-8")
    files = ["model.safetensors", "config.json", "rules.md"]
    if regions.network.inputs == 2:
        figure = Figure(figsize=(6, 6), layout="constrained")
        plot_regions(regions, original.data, original.labels, axes=figure.subplots())
        figure.savefig(folder / "regions.png")
        files.append("regions.png")
    measured = _compared(original.network, layers, _points(original.network, box))
    return TranslationOutput(measured | {"linear regions": len(regions), "boundaries": len(regions.boundaries)}, tuple(files))


def _points(network: nn.Module, box: tuple[float, float]) -> Tensor:
    """Random inputs, as many as the first layer reads, in the dtype of the network."""
    width = next(part.in_features for part in network.modules() if isinstance(part, nn.Linear | PiecewiseLinearKANLayer))
    random = torch.rand(POINTS, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (box[0] + (box[1] - box[0]) * random).to(checked_dtype(network))


def _compared(before: nn.Module, after: nn.Module, x: Tensor) -> dict[str, Any]:
    """How far the outputs of two networks are apart, and how large the networks are."""
    expected, found = before(x), after(x)
    return {
        "points": len(x),
        "equal to the last bit": torch.equal(expected.to(found), found),
        "largest difference": (expected.to(found) - found).abs().max().item(),
        "parameters before": sum(parameter.numel() for parameter in before.parameters()),
        "parameters after": sum(parameter.numel() for parameter in after.parameters()),
    }


def write_checkpoint(
    name: str,
    to: Literal["kan", "relu"],
    folder: Path,
    *,
    dtype: str = "auto",
    texts: Sequence[str] | None = None,
    block: int = -1,
    **how: Unpack[Loading],
) -> TranslationOutput:
    """Swap the feed-forward blocks of a model for KAN layers, or back, and save it.

    Args:
        name: A key of `models.EMBEDDED`, a folder, or a Hub id.
        to: What its blocks become.
        folder: Where to write the checkpoint and, given texts, `block.html`.
        dtype: The dtype of the weights.
        texts: What to run the model on for the page about one block.
        block: Which block the page is about, in the order of the model; -1 is the last.
        **how: `device_map`, `revision` and `trust_remote_code`, as in `models.load`.

    Returns:
        What was measured and written.

    Raises:
        ConfigError: Texts came without a tokenizer, or there is no such block.
    """
    model, tokenizer = _load(name, dtype, **how)
    before = outputs_on(model, token_ids(model))
    to_kan_(model)
    blocks = getattr(model.config, NOTE)
    edges = sum(layer.weight.numel() for layer in kan_layers_of(model).values())
    files = ["model.safetensors", "config.json"]
    if texts is not None:
        if tokenizer is None or not -len(blocks) <= block < len(blocks):
            raise ConfigError(f"A page needs a tokenizer and one of the {len(blocks)} blocks of `{name}`, got {block}.")
        page = feed_forward_page(model, tokenizer, texts, blocks[block][-1])
        (folder / "block.html").write_text(page, encoding="utf-8")
        files.append("block.html")
    if to == "relu":
        to_relu_(model)
    after = outputs_on(model, token_ids(model))
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    measured: dict[str, Any] = {
        "equal to the last bit": all(map(torch.equal, before, after)),
        "feed-forward blocks": len(blocks),
        "edges": edges,
    }
    return TranslationOutput(measured, tuple(files))


def _load(name: str, dtype: str, **how: Unpack[Loading]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """A model of the class that its checkpoint was saved from, and its tokenizer if it has one."""
    check_revision(name, how.get("revision"))
    code: dict[str, Any] = {
        "revision": how.get("revision") or models.MAIN,
        "trust_remote_code": how.get("trust_remote_code", False),
    }
    try:
        enable_ragged_checkpoints()
        with models.checkpoint_of(name) as source:
            architectures = AutoConfig.from_pretrained(source, **code).architectures or [""]
            kind = getattr(transformers, architectures[0], AutoModelForCausalLM)
            model = kind.from_pretrained(
                source, dtype="auto" if dtype == "checkpoint" else dtype, device_map=how.get("device_map"), **code
            ).eval()
    except (OSError, ValueError, SafetensorError) as error:
        raise ArchitectureError(
            f"`{name}` must be a file with a multilayer perceptron, a folder with a checkpoint, or a model on the Hub, but it "
            f"could not be loaded: {str(error).partition(chr(10))[0]}"
        ) from error
    try:
        with models.checkpoint_of(name) as source:
            return model, AutoTokenizer.from_pretrained(source, **code)
    except (OSError, ValueError):  # nothing but a page needs one
        return model, None
