"""Tiny models of any type that the installed transformers knows, made from its own configuration class."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hf_untangle.survey.sizes import LAYERS, OTHER_SIZES, SIZES


def tiny_config(model_type: str, **settings: Any) -> PreTrainedConfig:
    """Shrink the default configuration of a model type.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        settings: What to set otherwise.

    Returns:
        A configuration whose model has a few thousand parameters, and one layer of every kind that the type has.
    """
    default = CONFIG_MAPPING[model_type]()
    return type(default)(**_shrunk(default) | settings)


def tiny_model(model_type: str, **settings: Any) -> PreTrainedModel:
    """Make a tiny causal language model of a type, the same every time.

    No bias is zero and no norm is one, so that nothing vanishes by chance.

    Args:
        model_type: A type that transformers knows, such as `llama`.
        settings: What to set otherwise in its configuration.

    Returns:
        The model, in evaluation mode and float32.
    """
    config = tiny_config(model_type, **settings)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
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
