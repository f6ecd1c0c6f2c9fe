"""What a model writes when it goes on from a prompt."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode, without_gradients
from hf_untangle.architecture.offload import input_device


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 40,
) -> list[str]:
    """Continue prompts by greedy decoding, without the prompt itself and without special tokens.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        prompts: Texts to continue; each is run alone, so that none is padded.
        max_new_tokens: Where to stop.

    Returns:
        One continuation a prompt.
    """
    greedy = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )
    device = input_device(model)
    texts = []
    with evaluation_mode(model), _generating_by(model, greedy), without_gradients(model):
        for prompt in prompts:
            inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(device)
            output = model.generate(**inputs)  # type: ignore[operator]
            new = output[0, inputs["input_ids"].shape[1] :]
            texts.append(str(tokenizer.decode(new, skip_special_tokens=True)))
    return texts


@contextmanager
def _generating_by(model: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Put settings in the place of the model's own, which would fill up whatever is passed to `generate`."""
    with ExitStack() as undo:
        undo.callback(setattr, model, "generation_config", model.generation_config)
        model.generation_config = settings
        yield
