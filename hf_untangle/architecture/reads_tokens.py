"""What a model must be to be measured on blocks of tokens: it reads them alone, and has a position for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

from torch import nn

from hf_untangle.errors import ArchitectureError, CorpusError

POSITIONS = ("max_position_embeddings", "n_positions", "max_target_positions", "max_seq_len", "n_ctx", "context_length")
"""Settings for the number of positions."""
_TABLES: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()
"""Names of the tables of positions of a model."""


def check_reads_tokens_alone(model: nn.Module) -> None:
    """Refuse an encoder with a decoder, which predicts from two inputs at once.

    Args:
        model: A model from transformers.

    Raises:
        ArchitectureError: It is one.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ArchitectureError(
            f"A model must predict tokens from the tokens before them to be measured on a corpus, but {type(model).__name__} "
            "is an encoder with a decoder, which also reads what the encoder is given. Its neurons can be found, masked, "
            "removed and taken out (`neuron_groups`, `masked`, `remove_`, `compact`), with a mask of your own."
        )


@contextmanager
def positions_suffice(model: nn.Module, length: int) -> Iterator[None]:
    """Say that blocks are too long, where a model has fewer positions and cannot run on them in the `with` block.

    Many models run on more positions than they state, and are not stopped.

    Args:
        model: The model.
        length: Tokens of a block.

    Yields:
        Nothing.

    Raises:
        CorpusError: The blocks are longer than the positions of the model.
    """
    learned, stated = _learned(model), _stated(model)
    if learned is not None and length > learned:
        raise _too_long(model, length, learned)
    try:
        yield
    except (IndexError, RuntimeError, ValueError) as error:
        if stated is None or length <= stated:
            raise
        raise _too_long(model, length, stated) from error


def _too_long(model: nn.Module, length: int, positions: int) -> CorpusError:
    """The error of blocks that are too long."""
    return CorpusError(
        f"Blocks must be no longer than the {positions} positions of this {type(model).__name__}, got blocks of {length} "
        f"tokens. Pass block_size={positions} or less."
    )


def _stated(model: nn.Module) -> int | None:
    """How many positions the configuration states."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [value for name in POSITIONS if type(value := getattr(text, name, None)) is int and value > 0]
    return min(found, default=None)


def _learned(model: nn.Module) -> int | None:
    """How many positions a table of learned ones has for tokens; None without such a table."""
    stated = _stated(model)
    if stated is None:
        return None
    if model not in _TABLES:
        # Found once per model, as every batch asks.
        _TABLES[model] = [
            name for name, module in model.named_modules() if isinstance(module, nn.Embedding) and _of_places(name)
        ]
    tables = (cast(nn.Embedding, model.get_submodule(name)) for name in _TABLES[model])
    # Some tables have a few rows more, which come before the first position.
    rows = [
        table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
        for table in tables
        if 0 <= table.num_embeddings - stated <= 2
    ]
    return min((min(count, stated) for count in rows), default=None)


def _of_places(name: str) -> bool:
    """Tell whether a module is a table of positions, by its name."""
    last = name.rpartition(".")[2]
    return "pos" in last or last == "wpe"
