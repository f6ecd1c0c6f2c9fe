"""What a model predicts, and the blocks that it is judged on for that."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from hf_untangle.architecture.reads_tokens import check_reads_tokens_alone
from hf_untangle.architecture.sharding import own_class
from hf_untangle.configs.unlearn import UnlearnConfig
from hf_untangle.data.corpora import Corpus, CorpusSource, Part
from hf_untangle.data.images import ImageClasses, Processor, image_blocks
from hf_untangle.data.masked_tokens import mask_tokens
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.data.tokens import Task
from hf_untangle.data.two_corpora import two_corpora
from hf_untangle.errors import ConfigError, TokenizerError
from hf_untangle.hub.reachable import cache_alone_without_hub
from hf_untangle.pruning.step import Pair, read_pair

Opened = tuple[Corpus, Corpus] | tuple[ImageClasses, ImageClasses]
"""The forget corpus and the retain corpus."""


def task_of(model: PreTrainedModel) -> Task:
    """Tell what a model predicts, by its class.

    Args:
        model: A model from transformers with its head.

    Returns:
        The class of an image, a token that is hidden, or otherwise the next token.

    Raises:
        ArchitectureError: It is an encoder with a decoder.
    """
    check_reads_tokens_alone(model)
    name = own_class(model).__name__
    if any(name in _names(of) for of in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES.values()):
        return "class"
    # BERT and others are in both mappings with different classes; what generates predicts next tokens.
    if not model.can_generate() and any(name in _names(of) for of in MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()):
        return "masked token"
    return "next token"


def _names(classes: str | tuple[str, ...]) -> tuple[str, ...]:
    """The names of the classes of one model type."""
    return (classes,) if isinstance(classes, str) else tuple(classes)


def open_pair(
    task: Task,
    forget: CorpusSource | ImageClasses,
    retain: CorpusSource | ImageClasses | None,
    config: UnlearnConfig | None = None,
) -> Opened:
    """Open both corpora of a task.

    Args:
        task: What the model predicts.
        forget: The corpus or the classes that go.
        retain: Those that stay; when None, the other side of a preference data set, `general` prose, or all other classes.
        config: The settings, which say whether rows pass through a chat template, and whether forget is parted.

    Returns:
        Both.

    Raises:
        ConfigError: Classes of images came for a language model.
    """
    if task == "class":
        from hf_untangle.data.image_classes import image_classes  # It imports `datasets`, which texts may not need.

        gone = image_classes(cast(Any, forget))
        return gone, gone.others() if retain is None else image_classes(cast(Any, retain))
    if isinstance(forget, ImageClasses) or isinstance(retain, ImageClasses):
        raise ConfigError("A language model forgets a corpus of text, got classes of images.")
    config = config or UnlearnConfig()
    return two_corpora(forget, retain, chat=config.chat, split=config.split)


def find_processor(
    model: PreTrainedModel, task: Task, given: PreTrainedTokenizerBase | Processor | None
) -> PreTrainedTokenizerBase | Processor:
    """Find what makes a model's inputs: a tokenizer, or for a classifier a function of a list of images.

    Args:
        model: The model.
        task: What it predicts.
        given: What the caller has.

    Returns:
        The one given, or the one that was saved beside the model; for images in tensors of the right size, a scaling to
        -1 to 1.

    Raises:
        TokenizerError: There is no tokenizer, or it does not belong to the model.
    """
    if task != "class":
        return find_tokenizer(model, cast(PreTrainedTokenizerBase | None, given))
    if given is not None:
        return cast(Processor, given)
    try:
        name = str(model.config.name_or_path)
        with cache_alone_without_hub(name):
            processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=False)
    except Exception:  # A missing file, an unknown type and a lost connection each have their kind.
        return _scaled(model)
    return lambda images: processor(images, return_tensors="pt")["pixel_values"].to(model.dtype)


def _scaled(model: PreTrainedModel) -> Callable[[list[Any]], Tensor]:
    """Scale images that are tensors from 0 to 1 already."""

    def scale(images: list[Any]) -> Tensor:
        if not all(isinstance(image, Tensor) for image in images):
            raise TokenizerError(
                f"No image processor could be loaded for `{model.config.name_or_path}`. Pass what makes its pixel values of a "
                "list of images as `tokenizer=`."
            )
        return (torch.stack(images) * 2 - 1).to(model.dtype)

    return scale


def read_parts(
    task: Task,
    corpora: Opened,
    processor: PreTrainedTokenizerBase | Processor,
    part: Part,
    config: UnlearnConfig,
) -> Pair:
    """Read one part of both corpora for a task, as the settings say.

    Args:
        task: What the model predicts.
        corpora: What is forgotten, and what is retained.
        processor: Makes the model's inputs.
        part: Which part.
        config: The settings; a token stands for an image where there are images.

    Returns:
        The blocks.
    """
    if task == "class":
        count = config.tokens if part == "train" else config.evaluation_tokens
        gone, kept = cast(tuple[ImageClasses, ImageClasses], corpora)
        read = cast(Processor, processor)
        forget_images, retain_images = (image_blocks(one, read, part=part, images=count) for one in (gone, kept))
        return Pair(forget_images, retain_images)
    tokenizer = cast(PreTrainedTokenizerBase, processor)
    forget, retain = cast(tuple[Corpus, Corpus], corpora)
    pair = read_pair(forget, retain, tokenizer, part, config)
    if task == "next token":
        return pair
    gone_words, kept_words = (
        mask_tokens(cast(Any, blocks), tokenizer, seed=config.seed) for blocks in (pair.forget, pair.retain)
    )
    return Pair(gone_words, kept_words)
