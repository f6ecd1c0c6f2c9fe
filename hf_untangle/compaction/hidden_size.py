"""A narrower residual stream: fewer channels in everything that writes to it and reads it, exact up to what the rest held.

Norms that divide by the root mean square do not notice that the stream is turned, once their scales are part of what reads
them. So it can be turned until its last channels hold next to nothing, and those be left out (SliceGPT, arXiv:2401.15024).
"""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.architecture.projections import weight_of
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.architecture.wrappers import check_without_adapters
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.compare_layers import distance
from hf_untangle.compaction.hidden_basis import Basis, Directions, Readers, at_random, bare, choose, first, refitted
from hf_untangle.compaction.residual_stream import ResidualStream, narrower_config, width_of
from hf_untangle.compaction.verify import TOLERANCE, output_of, random_inputs
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.corpora import CorpusSource, corpus
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.errors import CompactionError, ConfigError
from hf_untangle.masks.removal import check_in_memory

logger = logging.getLogger("hf_untangle")

Model = TypeVar("Model", bound=nn.Module)

SOME, EVEN = 64, 1e-2
"""Tokens whose embeddings are compared; those that differ by less do so by rounding."""


@checked_arguments
@all_or_nothing
@torch.no_grad()
def cut_hidden_size(
    model: Model | ModelName,
    data: CorpusSource = "general",
    *,
    size: int,
    basis: Basis = "rotation",
    tokenizer: PreTrainedTokenizerBase | None = None,
    tokens: int = 16_384,
    block_size: int = 256,
    progress: bool = True,
) -> Model:
    """Make the residual stream of a model narrower, with heads and FFNs as wide as they are.

    The stream is turned so that as much as possible of what its norms hand on lies in few directions, and the others go; what
    reads it is refitted in closed form. Before that, the smaller model is compared with the given one whose stream is projected
    onto the same directions: up to rounding they compute the same.

    Args:
        model: A causal language model in floating point, whose norms divide by the root mean square (Llama, Mistral, Qwen,
            Phi-3, Gemma and many more). It is left as it was. A name or path is loaded.
        data: The text by which directions are chosen, and that readers are refitted on; a list of several shares the tokens.
        size: The hidden size that is wanted, below that of the model. Multiples of 64 or 128 are fast; some
            configurations want a multiple of the number of heads.
        basis: `rotation`: the principal components. The scales of norms go into what reads them, so that a head that shared its
            weights with the embedding gets its own. `channels`: those channels that hold most, as they are, which keeps
            that sharing and is possible behind blocks with norms of their own (Gemma 2 and 3), but loses more.
        tokenizer: The model's tokenizer; found by the model's name when None.
        tokens: How many tokens of the train part of the text are read.
        block_size: Tokens in a block.
        progress: Whether to show progress bars.

    Returns:
        The smaller model, which saves with `save_pretrained` and loads with plain `from_pretrained`.

    Raises:
        ConfigError: The size is not below that of the model.
        MaskError: The weights are quantized or not loaded.
        StatisticsError: Hidden states are NaN or infinity.
        CompactionError: Norms of another kind, or something else that depends on the hidden size and is not understood.
    """
    model = opened(model)
    check_without_adapters(model)
    assert isinstance(model, PreTrainedModel)
    width = width_of(model)
    if not 1 <= size < width:
        raise ConfigError(f"The size must be at least 1 and below the hidden size of the model, {width:,}, got size={size:,}.")
    groups = neuron_groups(model)
    check_in_memory(model, groups)
    config = narrower_config(model, groups, size)
    stream = ResidualStream.of(model, groups, config)
    if basis == "rotation":
        _check_turns(model, stream)
        config.get_text_config().tie_word_embeddings = config.tie_word_embeddings = False
    some = at_random if basis == "rotation" else first
    _check_law(_Narrowing(model, stream, config, some(width, size)))
    source, named = corpus(data), find_tokenizer(model, tokenizer)
    blocks = token_blocks(source, named, tokens=tokens, block_size=block_size)
    narrow = _Narrowing(model, stream, config, choose(model, stream, blocks, basis, size, progress=progress))
    readers = refitted(model, stream, blocks, narrow.directions, as_they_are=narrow.unfolded, progress=progress)
    small = narrow.model_with(readers)
    _tell_if_larger(model, small)
    return cast(Model, small)


def _check_turns(model: PreTrainedModel, stream: ResidualStream) -> None:
    """Refuse to turn a stream that norms with a scale of each channel write to."""
    if behind := next((norm.path for norm in stream.norms if not norm.readers), None):
        raise CompactionError(
            f"A stream that is turned must be written to by projections alone, but in this {type(model).__name__} `{behind}` "
            "scales each channel of what a block writes. Use basis='channels'."
        )


@dataclass(frozen=True, eq=False)
class _Narrowing:
    """Making a narrower model."""

    whole: PreTrainedModel
    """The model, which is left as it was."""
    stream: ResidualStream
    config: PreTrainedConfig
    """Of the narrower one."""
    directions: Directions
    """What stays of the stream."""

    @cached_property
    def tied(self) -> set[int]:
        """Tensors that write to the stream and read it, and are one in the narrower model too."""
        if not getattr(self.config.get_text_config(), "tie_word_embeddings", False):
            return set()
        writing, reading = ({id(self.whole.get_parameter(name)) for name in names} for names in self._sides)
        return writing & reading

    @cached_property
    def unfolded(self) -> frozenset[str]:
        """Norms that keep a scale, as what reads them cannot take it over: it writes too, or there is nothing."""
        tied = [
            one.path
            for one in self.stream.norms
            if any(id(self.whole.get_parameter(name)) in self.tied for name in one.readers)
        ]
        return frozenset([*tied, *(one.path for one in self.stream.norms if not one.readers)])

    @property
    def _sides(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Parameters that write, and those that read."""
        return self.stream.writing, self.stream.reading

    def model_with(self, readers: Readers) -> PreTrainedModel:
        """Make the narrower model.

        Args:
            readers: By norm, what turns weights that read all channels into those that read the kept part.

        Returns:
            The model; tensors that do not lie along the stream are shared with the whole one.
        """
        small = skeleton(type(self.whole), self.config)
        made: dict[int | str, Tensor] = {}
        for name, parameter in self.whole.named_parameters(remove_duplicate=False):
            key = id(parameter) if id(parameter) in self.tied else name
            if key not in made:
                made[key] = self._narrowed(name, parameter, readers)
            _place_(small, name, made[key])
        if hasattr(self.whole, "generation_config"):
            small.generation_config = deepcopy(self.whole.generation_config)
        small.name_or_path = self.whole.name_or_path
        self._even_out_(small)
        return small.train(self.whole.training)

    def _narrowed(self, name: str, parameter: Tensor, readers: Readers) -> Tensor:
        """What becomes of one parameter."""
        scaled = next((one for one in self.stream.norms if f"{one.path}.weight" == name), None)
        if scaled is not None:
            kept = (
                scaled.scale.cpu() @ readers[scaled.path]
                if scaled.path in self.unfolded
                else torch.ones(self.directions.shape[1])
            )
            return _like(parameter, kept - scaled.offset)
        norm, axis = self.stream.norm_of(name), self._axis(name)
        if axis is None:
            return parameter
        folded = norm is not None and norm.path not in self.unfolded
        by = norm.scale.cpu()[:, None] * readers[norm.path] if norm is not None and folded else self.directions
        return _like(
            parameter,
            torch.tensordot(parameter.detach().movedim(axis, -1).double(), by.to(parameter.device), 1).movedim(-1, axis),
        )

    def _axis(self, name: str) -> int | None:
        """The axis of a parameter along the stream."""
        return next((side[name] for side in self._sides if name in side), None)

    def _even_out_(self, small: PreTrainedModel) -> None:
        """Let embeddings write as much as before where the hidden size is part of what they are multiplied by, as in Gemma."""
        embeddings = self.whole.get_input_embeddings(), small.get_input_embeddings()
        embedding = weight_of(embeddings[1])
        some = torch.arange(min(len(embedding), SOME), device=embedding.device)
        before, after = (one(some).double().cpu() for one in embeddings)
        times = float((before @ self.directions).norm() / after.norm())
        if abs(times - 1) <= EVEN:
            return
        embedding.mul_(times)
        for norm in self.stream.norms:
            if any(small.get_parameter(name) is embedding for name in norm.readers):
                weight = small.get_parameter(f"{norm.path}.weight")
                weight.copy_((weight + norm.offset) / times - norm.offset)


def _place_(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a parameter into a model."""
    path, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(path), leaf, tensor)


def _like(parameter: Tensor, values: Tensor) -> nn.Parameter:
    """A parameter of its own with other values."""
    return nn.Parameter(values.to(parameter).contiguous(), requires_grad=parameter.requires_grad)


def _check_law(narrow: _Narrowing) -> None:
    """Compare the narrower model without a refit with the whole one whose stream is projected onto what stays."""
    whole, directions = narrow.whole, narrow.directions
    projection = directions @ directions.T
    inputs = random_inputs(whole)
    small = narrow.model_with(bare(narrow.stream.norms, directions))

    def project(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        return (output.double() @ projection.to(output.device)).to(output)

    with evaluation_mode(whole), evaluation_mode(small), ExitStack() as hooks:
        try:
            found = output_of(small, inputs)
        except (RuntimeError, ValueError, AttributeError, TypeError, IndexError):  # The modules do not fit together.
            found = torch.tensor(float("nan"))
        for norm in narrow.stream.norms:
            # Beside a mean over all channels, some of which are zero, it weighs as much as beside one over fewer.
            if norm.epsilon_name is not None:
                module = whole.get_submodule(norm.path)
                hooks.callback(setattr, module, norm.epsilon_name, norm.epsilon)
                setattr(module, norm.epsilon_name, norm.epsilon * directions.shape[1] / directions.shape[0])
        for path in {name.rpartition(".")[0] for name in narrow.stream.writing}:
            hooks.callback(whole.get_submodule(path).register_forward_hook(project).remove)
        difference = distance(found, output_of(whole, inputs))
    if not difference <= TOLERANCE.get(whole.dtype, 5e-2):
        raise CompactionError(
            f"The narrower {type(whole).__name__} must compute what the whole one does with its residual stream projected onto "
            f"{directions.shape[1]} directions, but it does not: something in it depends on the hidden size in a way that is "
            "not understood. Take neurons, heads or layers out instead."
        )


def _tell_if_larger(model: PreTrainedModel, small: PreTrainedModel) -> None:
    """Say that a head of its own takes more than what went."""
    before, after = model.num_parameters(), small.num_parameters()
    if after >= before:
        logger.warning(
            "The narrower model has %s parameters, the whole one %s: the head no longer shares its weights with the embedding. "
            "basis='channels' keeps them shared, and `cut_vocabulary` makes both smaller.",
            f"{after:,}",
            f"{before:,}",
        )
