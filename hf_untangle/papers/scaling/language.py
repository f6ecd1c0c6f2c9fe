"""Small GPT-2 and Llama shaped language models of any width, trained by transformers' Trainer to read bytes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import (
    AutoModelForCausalLM,
    ByT5Tokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from hf_untangle.arguments import checked_calls
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.corpora import CorpusSource, corpus
from hf_untangle.errors import ConfigError
from hf_untangle.folders import temporary_folder
from hf_untangle.randomness import random_state_kept

VALIDATION = 8_192
"""Bytes that a model is judged on."""
VOCABULARY = 259
"""256 bytes and ByT5's three special tokens."""
LAYERS, HEADS = 2, 4
WIDTH_STEP = 2 * HEADS
"""Widths are multiples of this, as every head of a Llama needs an even number of neurons."""


@checked_calls
@dataclass(frozen=True)
class LanguageTraining:
    """How a language model is trained: AdamW, warmed up and then decaying along a cosine."""

    steps: int = 600
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    batch_size: int = 16
    """Blocks in a step."""
    block_size: int = 128
    """Bytes in a block."""
    tokens: int = 400_000
    """Bytes of the corpus to learn from, at most."""


@dataclass(frozen=True, eq=False)
class ByteText:
    """A corpus as blocks of bytes."""

    train: TokenBlocks
    validation: TokenBlocks


def byte_text(source: CorpusSource, training: LanguageTraining) -> ByteText:
    """Read a corpus byte by byte, which needs no tokenizer of its own.

    Args:
        source: The corpus.
        training: How much to read, and the size of blocks.

    Returns:
        Its train and validation parts.
    """
    opened = corpus(source)
    tokenizer = ByT5Tokenizer(extra_ids=0)

    def read(part: str, tokens: int) -> TokenBlocks:
        return token_blocks(opened, tokenizer, tokens=tokens, part=part, block_size=training.block_size, excerpt=None)  # type: ignore[arg-type]

    return ByteText(read("train", training.tokens), read("validation", VALIDATION))


def gpt2_config(width: int, vocabulary: int, positions: int) -> PreTrainedConfig:
    """Describe a GPT-2 of two layers.

    Args:
        width: Of the residual stream; FFNs are four times as wide.
        vocabulary: Number of tokens.
        positions: Longest block.

    Returns:
        The configuration.
    """
    return GPT2Config(
        vocab_size=vocabulary,
        n_embd=width,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=positions,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )


def llama_config(width: int, vocabulary: int, positions: int) -> PreTrainedConfig:
    """Describe a Llama of two layers.

    Args:
        width: Of the residual stream; gated FFNs are 8/3 as wide.
        vocabulary: Number of tokens.
        positions: Longest block.

    Returns:
        The configuration.
    """
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )


LANGUAGE_MODELS: dict[str, Callable[[int, int, int], PreTrainedConfig]] = {"gpt2": gpt2_config, "llama": llama_config}
"""Every architecture by name."""


def trained_language_model(name: str, width: int, text: ByteText, training: LanguageTraining, seed: int) -> PreTrainedModel:
    """Train a language model from the beginning.

    Args:
        name: A key of `LANGUAGE_MODELS`.
        width: Of the residual stream.
        text: What it learns.
        training: How.
        seed: For its initial weights and the order of the blocks.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        ConfigError: The width does not divide into heads.
    """
    if width % WIDTH_STEP:
        raise ConfigError(f"The width of a transformer here must be a multiple of {WIDTH_STEP}, got {width}.")
    with random_state_kept(), temporary_folder() as folder, torch.enable_grad():
        torch.manual_seed(seed)
        config = LANGUAGE_MODELS[name](width, VOCABULARY, training.block_size)
        model = AutoModelForCausalLM.from_config(config)
        arguments = TrainingArguments(
            str(folder),
            max_steps=training.steps,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=training.steps // 20,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
        )
        rows = text.train.training_rows()
        trainer = Trainer(model, arguments, train_dataset=rows)  # type: ignore[arg-type]
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model.eval()
