"""Tiny models of any type that the installed transformers knows, made from its own configuration class."""

from typing import Any, Literal

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSpeechSeq2Seq,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hf_untangle.randomness import random_state_kept
from hf_untangle.survey.tiny_sizes import LAYERS, OTHER_SIZES, POSITIONS, SIZES, VOCABULARY

Task = Literal["causal-lm", "masked-lm", "image-text", "sequence-to-sequence", "image", "towers", "speech"]
AUTO_CLASSES: dict[Task, Any] = {
    "causal-lm": AutoModelForCausalLM,
    "masked-lm": AutoModelForMaskedLM,
    "image-text": AutoModelForImageTextToText,
    "sequence-to-sequence": AutoModelForSeq2SeqLM,
    "image": AutoModelForImageClassification,
    "towers": AutoModel,
    "speech": AutoModelForSpeechSeq2Seq,
}


def causal_types() -> list[str]:
    """List the types of causal language models in the installed transformers."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_config(model_type: str, **settings: Any) -> PreTrainedConfig:
    """Shrink the default configuration of a model type.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        **settings: What to set otherwise.

    Returns:
        A configuration whose model has a few thousand parameters, and one layer of every kind that the type has.
    """
    default = CONFIG_MAPPING[model_type]()
    return type(default)(**_shrunk(default) | settings)


def tiny_model(model_type: str, task: Task = "causal-lm", **settings: Any) -> PreTrainedModel:
    """Make a tiny model of a type, the same every time.

    No bias is zero and no norm is one, so that nothing vanishes by chance.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        task: What the model is for.
        **settings: What to set otherwise in its configuration.

    Returns:
        The model, in evaluation mode and float32.
    """
    config = tiny_config(model_type, **settings)
    with random_state_kept(), torch.no_grad():
        torch.manual_seed(0)
        model = AUTO_CLASSES[task].from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    model.name_or_path = f"tiny-{model_type}"
    return model.eval()


def _shrunk(config: PreTrainedConfig) -> dict[str, Any]:
    """The settings of a configuration that name a size, made small, sub-configurations included."""
    settings: dict[str, Any] = {}
    values = {name: value for name, value in vars(config).items() if not name.startswith("_")}
    # Latent attention derives the widths of its heads from their parts, and has as many keys as queries.
    derived = {"head_dim", "qk_head_dim"} if values.get("qk_nope_head_dim") else set()
    for name, value in values.items():
        if isinstance(value, PreTrainedConfig):
            settings[name] = {"model_type": value.model_type} | _shrunk(value)
        elif name in SIZES and name not in derived and value is not None:
            settings[name] = SIZES[name]
    if derived and "num_key_value_heads" in settings:
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    return settings | _one_layer_of_each_kind(values) | OTHER_SIZES.get(config.model_type, {})


def _one_layer_of_each_kind(values: dict[str, Any]) -> dict[str, Any]:
    """Keep the first layer of every combination of kinds in the lists that describe layers one by one."""
    count = next((values[name] for name in ("num_hidden_layers", "n_layer", "num_layers") if values.get(name)), None)
    lists = {name: value for name, value in values.items() if isinstance(value, list) and len(value) == count}
    kinds = list(zip(*lists.values(), strict=True)) if lists else []
    chosen = [index for index, kind in enumerate(kinds) if kinds.index(kind) == index]
    chosen += [index for index in range(len(kinds)) if index not in chosen][: max(0, LAYERS - len(chosen))]
    shrunk = {name: [value[index] for index in sorted(chosen)] for name, value in lists.items()}
    return shrunk | {"num_hidden_layers": len(chosen)} if chosen else {}


IMAGE = (3, 16, 16)
MEL_BINS = 80


def random_inputs(task: Task) -> dict[str, Any]:
    """Draw two inputs, the same every time.

    Args:
        task: What the model is for.

    Returns:
        Keyword arguments of the model.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, VOCABULARY - 6, (2, 6), generator=generator)
    text = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    images = {"pixel_values": torch.randn(2, *IMAGE, generator=generator)}
    sounds = {"input_features": torch.randn(2, MEL_BINS, 2 * POSITIONS, generator=generator)}
    answers = {"decoder_input_ids": tokens.flip(0)}
    inputs: dict[Task, dict[str, Any]] = {
        "causal-lm": text,
        "masked-lm": text,
        "image-text": text,
        "sequence-to-sequence": text | answers,
        "image": images,
        "towers": text | images,
        "speech": sounds | answers,
    }
    return inputs[task]
