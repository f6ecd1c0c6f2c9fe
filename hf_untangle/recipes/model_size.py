"""How large a model is, from its configuration alone."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from hf_untangle import models
from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.errors import ArchitectureError
from hf_untangle.packaged import check_revision
from hf_untangle.ragged import enable_ragged_checkpoints

OWN = ("auto", "checkpoint")
"""Names of dtypes that are read off the checkpoint."""


@dataclass(frozen=True)
class ModelSize:
    """What a configuration says about a model, without its weights."""

    parameters: int
    head: int
    """How many of them make logits of hidden states; tied ones are those of the embedding."""
    body: int
    """How many of them a pass of the base model multiplies by: all but those of the head and of the embedding."""
    layers: int
    hidden: int
    """Width of the residual stream."""
    intermediate: int
    """Width of the FFNs."""
    vocabulary: int
    dtype: torch.dtype

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return self.parameters * self.dtype.itemsize


def bare_model(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedModel:
    """Make a causal language model without weights; none are read or downloaded.

    Args:
        name: A key of `EMBEDDED`, a folder, or a Hub id.
        revision: A branch, a tag or a commit of a model on the Hub.
        trust_remote_code: Whether code that lies beside the weights may run; never asked for.

    Returns:
        The model, its parameters on the meta device and its buffers real.

    Raises:
        ConfigError: A revision was given for a model that is not on the Hub.
        ArchitectureError: Neither a folder nor the Hub has such a causal language model.
    """
    check_revision(name, revision)
    try:
        enable_ragged_checkpoints()
        with models.checkpoint_of(name) as source:
            config = AutoConfig.from_pretrained(source, revision=revision or models.MAIN, trust_remote_code=trust_remote_code)
        model = skeleton(_class_of(config), config)
    except (OSError, ValueError) as error:
        raise ArchitectureError(
            f"`{name}` must be a folder with a checkpoint, a model on the Hub, or one of {list(models.EMBEDDED)}, but its "
            f"configuration could not be read: {str(error).partition(chr(10))[0]}"
        ) from error
    model.tie_weights()
    return model


def size_of(model: PreTrainedModel, dtype: str = "auto") -> ModelSize:
    """Measure a model.

    Args:
        model: What `bare_model` gave.
        dtype: As in a recipe; `auto` and `checkpoint` are the checkpoint's own.

    Returns:
        Its size.
    """
    text = model.config.get_text_config()
    parameters, embedding = model.num_parameters(), cast(nn.Embedding, model.get_input_embeddings()).weight.numel()
    tied = parameters == cast(PreTrainedModel, model.base_model).num_parameters()
    return ModelSize(
        parameters=parameters,
        head=text.vocab_size * text.hidden_size,
        body=parameters - embedding - (0 if tied else text.vocab_size * text.hidden_size),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        dtype=(getattr(model.config, "dtype", None) or torch.float32) if dtype in OWN else getattr(torch, dtype),
    )


def _class_of(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The causal language model of a configuration."""
    known = AutoModelForCausalLM._model_mapping
    if type(config) not in known:
        raise ValueError(f"{type(config).__name__} is the configuration of no causal language model.")
    return cast(type[PreTrainedModel], known[type(config)])
