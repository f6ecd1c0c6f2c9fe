"""The tokenizer of a model: the one given, or the one that was saved beside it."""

from torch import nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.errors import TokenizerError


def find_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None) -> PreTrainedTokenizerBase:
    """Find the tokenizer of a model and check that it belongs to it.

    Args:
        model: The model.
        tokenizer: The tokenizer to use, or None to load it from where the model came from.

    Returns:
        The tokenizer.

    Raises:
        TokenizerError: There is none, or its largest token id does not fit the model's embedding.
    """
    found = _saved_tokenizer(model) if tokenizer is None else tokenizer
    largest = max(found.get_vocab().values(), default=-1)
    rows = _embedding_rows(model)
    if largest >= rows:
        raise TokenizerError(
            f"The tokenizer has token ids up to {largest}, but the model embeds only {rows} tokens. "
            "Pass the tokenizer that the model was trained with."
        )
    return found


def _saved_tokenizer(model: PreTrainedModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer from the folder or repository that the model was loaded from."""
    where = model.config.name_or_path
    if not where:
        raise TokenizerError("The model does not say where it was loaded from. Pass `tokenizer=`.")
    try:
        return AutoTokenizer.from_pretrained(where)
    except Exception as error:  # A missing file, an unknown type and a lost connection each have their kind.
        raise TokenizerError(f"No tokenizer was found at `{where}`: {error} Pass `tokenizer=`.") from error


def _embedding_rows(model: PreTrainedModel) -> int:
    """Count the tokens that a model has an embedding for."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.num_embeddings
