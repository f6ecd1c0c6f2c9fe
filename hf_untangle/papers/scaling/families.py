"""Families: networks that differ in their width alone, trained the same way or loaded by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Unpack

import torch
from torch import nn

from hf_untangle import models
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import Loading
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.density.measure import Measure, corpus_measure, next_token_measure
from hf_untangle.density.tolerance import TOLERANCES
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError
from hf_untangle.papers.image_classifiers import Training, accuracy, trained_classifier
from hf_untangle.papers.image_sets import LabeledImages, labeled_images
from hf_untangle.papers.networks import NETWORKS
from hf_untangle.papers.scaling.language import LANGUAGE_MODELS, ByteText, LanguageTraining, byte_text, trained_language_model

TRAINING, LANGUAGE_TRAINING = Training(), LanguageTraining()

Width = int | str
"""A number of neurons or channels; for families that are loaded, a part of the model's name, such as `410m`."""


@checked_calls
@dataclass(frozen=True, eq=False)
class Member:
    """One trained network of a family."""

    model: nn.Module
    measure: Measure
    __repr__ = fields_repr


@checked_calls
@dataclass(frozen=True)
class Family:
    """Networks by width and seed."""

    name: str
    member: Callable[[Width, int, str], Member]
    """From a width, a seed and a tolerance to a trained network, and how it is judged."""
    __repr__ = fields_repr


@checked_arguments
def image_family(
    network: str,
    *,
    data: str | LabeledImages = "digits",
    training: Training = TRAINING,
) -> Family:
    """Classifiers of images, trained here.

    Args:
        network: A key of `NETWORKS`: `mlp`, `convolutional` or `residual`.
        data: One of `IMAGES`, or images.
        training: How they are trained.

    Returns:
        The family. Its networks are judged on the held-out images, and calibrated on the others.

    Raises:
        ConfigError: There is no such network.
    """
    if network not in NETWORKS:
        raise ConfigError(f"A network must be one of {', '.join(NETWORKS)}, got `{network}`.")

    @cache
    def read() -> LabeledImages:
        return labeled_images(data) if isinstance(data, str) else data

    def member(width: Width, seed: int, tolerance: str) -> Member:
        if TOLERANCES[tolerance].metric == "loss":
            raise ConfigError(f"Classifiers are judged by accuracy here, but the tolerance `{tolerance}` needs a loss.")
        found = read()
        trained = trained_classifier(network, int(width), found, training, seed)
        measure = Measure(
            lambda model: accuracy(model, found), lambda model: model(found.train_x[:1024]), examples=len(found.test_x)
        )
        return Member(trained, measure)

    return Family(network, member)


@checked_arguments
def language_family(
    architecture: str,
    *,
    corpus: CorpusSource = "general",
    training: LanguageTraining = LANGUAGE_TRAINING,
) -> Family:
    """Language models of bytes, trained here.

    Args:
        architecture: A key of `LANGUAGE_MODELS`: `gpt2` or `llama`.
        corpus: What they learn.
        training: How they are trained.

    Returns:
        The family. Its models are judged by the next bytes of the validation part.

    Raises:
        ConfigError: There is no such architecture.
    """
    if architecture not in LANGUAGE_MODELS:
        raise ConfigError(f"An architecture must be one of {', '.join(LANGUAGE_MODELS)}, got `{architecture}`.")

    @cache
    def read() -> ByteText:
        return byte_text(corpus, training)

    def member(width: Width, seed: int, tolerance: str) -> Member:
        text = read()
        trained = trained_language_model(architecture, int(width), text, training, seed)
        return Member(trained, next_token_measure(text.validation, text.train.first(32), TOLERANCES[tolerance].metric))

    return Family(architecture, member)


@checked_arguments
def pretrained_family(
    pattern: str,
    *,
    corpus: CorpusSource = "general",
    dtype: torch.dtype | str = "auto",
    **how: Unpack[Loading],
) -> Family:
    """Models of the Hub that differ in their size alone, such as `EleutherAI/pythia-{}` at 70m, 160m and 410m.

    Args:
        pattern: The name, with `{}` where the width stands.
        corpus: What they are judged on.
        dtype: Of the weights.
        **how: `device_map`, `revision` and `trust_remote_code`, as in `models.load`.

    Returns:
        The family; its seeds mean nothing, as nothing is trained.

    Raises:
        ConfigError: The pattern has no place for the width.
    """
    if "{}" not in pattern:
        raise ConfigError(f"The name of a family must have `{{}}` instead of the width, got `{pattern}`.")

    def member(width: Width, _: int, tolerance: str) -> Member:
        model, tokenizer = models.load(pattern.format(width), dtype=dtype, **how)
        return Member(model, corpus_measure(model, corpus, tokenizer, TOLERANCES[tolerance].metric))

    return Family(pattern, member)


FAMILIES: dict[str, Callable[..., Family]] = {
    **dict.fromkeys(NETWORKS, image_family),
    **dict.fromkeys(LANGUAGE_MODELS, language_family),
}
"""Every family that is trained here, by name."""


def family_of(name: str | Family) -> Family:
    """Find a family by its name.

    Args:
        name: A key of `FAMILIES`, a pattern with `{}` for `pretrained_family`, or a family.

    Returns:
        The family, with its default training.

    Raises:
        ConfigError: There is no such name.
    """
    if isinstance(name, Family):
        return name
    if name in FAMILIES:
        return FAMILIES[name](name)
    if "{}" in name:
        return pretrained_family(name)
    raise ConfigError(f"A family must be one of {', '.join(FAMILIES)} or a name such as `org/model-{{}}`, got `{name}`.")
