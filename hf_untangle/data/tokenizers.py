"""The tokenizer of a model: the one given, or the one that was saved beside it."""

from typing import cast

from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.errors import TokenizerError
from hf_untangle.hub.reachable import cache_alone_without_hub


def find_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedTokenizerBase:
    """Find the tokenizer of a model and check that it can belong to it.

    Args:
        model: The model.
        tokenizer: The tokenizer to use, or None to load it from where the model came from.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: There is none, or its largest token id does not fit the model's embedding.
    """
    found = _saved_tokenizer(model.config.name_or_path) if tokenizer is None else tokenizer
    largest = max(found.get_vocab().values(), default=-1)
    embedded = cast(Tensor, model.get_input_embeddings().weight).shape[0]
    if largest >= embedded:
        raise TokenizerError(
            f"The tokenizer has token ids up to {largest}, but the model embeds only {embedded} tokens. "
            "Pass the tokenizer that the model was trained with."
        )
    return found


def _saved_tokenizer(where: str | None) -> PreTrainedTokenizerBase:
    """Load the tokenizer from the folder or repository that a model was loaded from."""
    if not where:
        raise TokenizerError("The model does not say where it was loaded from. Pass `tokenizer=`.")
    try:
        with cache_alone_without_hub(where):
            loaded = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # A missing file, an unknown type and a lost connection each have their kind.
        raise TokenizerError(
            f"No tokenizer could be loaded from `{where}` ({type(error).__name__}). Pass `tokenizer=`."
        ) from error
    # For many types of model, transformers makes an empty tokenizer where no file of one is.
    if set(loaded.get_vocab()) <= set(loaded.all_special_tokens):
        raise TokenizerError(f"There is no tokenizer at `{where}`. Pass `tokenizer=`.")
    return loaded
