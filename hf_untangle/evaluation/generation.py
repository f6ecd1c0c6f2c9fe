"""What a model writes when it continues from a prompt."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device
from hf_untangle.arguments import checked_arguments
from hf_untangle.by_name import ModelName, opened
from hf_untangle.files.json_text import whole_text


@checked_arguments
def continuations(
    model: PreTrainedModel | ModelName,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | Int[Tensor, " _"]],
    *,
    max_new_tokens: int = 40,
    stop: Callable[[], bool] | None = None,
) -> list[str]:
    """Continue prompts by greedy decoding, without the prompt itself and without special tokens.

    Args:
        model: A causal language model. A name or path is loaded.
        tokenizer: Its tokenizer.
        prompts: Texts to continue, or token ids where they have special tokens of their own; each is run alone, so that none is
            padded.
        max_new_tokens: Where to stop.
        stop: Asked after every token whether to stop at once; what is written until then is returned.

    Returns:
        One continuation a prompt.
    """
    model = opened(model)
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=ends_of(model, tokenizer) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )
    device = input_device(model)
    criteria = StoppingCriteriaList([] if stop is None else [_Stop(stop)])
    texts = []
    with evaluation_mode(model), generating_by(model, greedy), without_gradients(model):
        for prompt in prompts:
            inputs = _inputs(prompt, tokenizer, device)
            output = model.generate(**inputs, stopping_criteria=criteria)  # type: ignore[operator]
            new = output[0, inputs["input_ids"].shape[1] :]
            texts.append(str(tokenizer.decode(new, skip_special_tokens=True)))
    return texts


class _Stop(StoppingCriteria):
    """Stops when somebody says so."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # type: ignore[override]  # noqa: ARG002
        """Whether each text is finished."""
        return torch.full((len(input_ids),), self.stop(), dtype=torch.bool, device=input_ids.device)


def ends_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Find the tokens that end a text, or a turn of a chat, which only the model may know.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.

    Returns:
        Their ids, each once.
    """
    own = getattr(model.generation_config, "eos_token_id", None)
    several = own if isinstance(own, list) else [own]
    return [one for one in dict.fromkeys([tokenizer.eos_token_id, *several]) if isinstance(one, int)]


def _inputs(prompt: str | Int[Tensor, " _"], tokenizer: PreTrainedTokenizerBase, device: torch.device) -> dict[str, Tensor]:
    """What a model is called with to continue a prompt."""
    if isinstance(prompt, Tensor):
        ids = prompt[None].to(device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return dict(tokenizer(whole_text(prompt), return_tensors="pt", return_token_type_ids=False).to(device))


@contextmanager
def generating_by(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Use settings instead of the model's own, which would fill up whatever is passed to `generate`.

    Args:
        model: The model.
        settings: How it generates inside the `with` block.

    Yields:
        Nothing.
    """
    with ExitStack() as undo:
        undo.callback(setattr, model, "generation_config", model.generation_config)
        model.generation_config = settings
        yield
