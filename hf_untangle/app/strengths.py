"""A saved result as something to try: the original model, and the masks of all steps over it."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Unpack, cast

from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle import models
from hf_untangle.architecture.locate import neuron_groups
from hf_untangle.by_name import Loading
from hf_untangle.data.chat_templates import has_template
from hf_untangle.errors import ConfigError, MaskError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.folders import MARKER
from hf_untangle.hub.cards import commit_of
from hf_untangle.masks.ablation import Constants, mean_ablation
from hf_untangle.masks.by_hooks import masked
from hf_untangle.masks.mask import NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path
from hf_untangle.records.saved import read_run_record
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.statistics.activation_statistics import ActivationStatistics

MOST_PROMPT_TOKENS, MOST_NEW_TOKENS = 2048, 256
"""The longest prompt or chat that is taken, and the longest continuation that is written."""

Turn = dict[str, str]
"""A message of a chat: its `role`, `user` or `assistant`, and its `content`."""
Chats = tuple[list[Turn], list[Turn]]
"""A chat with the original model, and the same with the masked one, which has other answers."""


@dataclass(frozen=True, eq=False)
class Strengths:
    """The original model with every strength at which it can be masked: 0 is the original, n is step n of the run."""

    original: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    masks: tuple[NeuronMask, ...]
    """One a step, weakest first."""
    record: UnlearnRecord
    constants: Constants | None = None
    """What masked-out neurons read; zero when None."""
    stopped: Event = field(default_factory=Event)
    """Set while what is being written is to end."""

    @property
    def can_chat(self) -> bool:
        """Whether there is a template to write chats by."""
        return has_template(self.tokenizer)

    def compare(self, strength: int, prompt: str, new_tokens: int) -> tuple[str, str]:
        """Continue a prompt by the original model and by the masked one, greedily.

        Args:
            strength: 0 for the original, or the number of a step.
            prompt: The text to continue.
            new_tokens: Where to stop, at `MOST_NEW_TOKENS` at the latest.

        Returns:
            Both continuations, that of the original first; as far as they came where `stop` was called.

        Raises:
            ConfigError: The prompt is empty or too long, or there is no such strength.
        """
        self._check(strength, prompt)
        ids = cast(Tensor, self.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)["input_ids"])[0]
        return self._both(strength, (ids, ids), new_tokens)

    def chat(self, strength: int, chats: Chats, message: str, new_tokens: int) -> Chats:
        """Answer a message by the original model and by the masked one, each in its own chat, by the model's chat template.

        Args:
            strength: 0 for the original, or the number of a step.
            chats: What was said until now.
            message: What the user says next, to both.
            new_tokens: Where to stop, at `MOST_NEW_TOKENS` at the latest.

        Returns:
            Both chats with the message and its answers; those that were passed are left as they were.

        Raises:
            ConfigError: The message is empty, the chat is too long, or there is no such strength or no chat template.
        """
        self._check(strength, message)
        asked = [[*turns, {"role": "user", "content": message}] for turns in chats]
        before, after = (self._by_template(turns) for turns in asked)
        answers = self._both(strength, (before, after), new_tokens)
        one, other = ([*turns, {"role": "assistant", "content": answer}] for turns, answer in zip(asked, answers, strict=True))
        return one, other

    def stop(self) -> None:
        """End what is being written, with the next token."""
        self.stopped.set()

    def record_at(self, strength: int) -> UnlearnRecord:
        """The record of the run as if another of its steps had been chosen.

        Args:
            strength: The number of a step; at 0 no neuron is counted as removed.

        Returns:
            A record whose counts of neurons, and whose chosen step, are those of the strength.
        """
        groups = tuple(
            group.model_copy(update={"removed": int((~self.masks[strength - 1][group.name]).sum()) if strength else 0})
            for group in self.record.groups
        )
        history = self.record.history.model_copy(update={"chosen": max(strength, 1)})
        return self.record.model_copy(update={"groups": groups, "history": history})

    def _check(self, strength: int, text: str) -> None:
        """Refuse what the page itself never sends, and what nothing can be written after."""
        if not text.strip():
            raise ConfigError("The prompt must have some text to continue from, but it is empty. Type a few words.")
        if not 0 <= strength <= len(self.masks):
            raise ConfigError(f"The strength must be 0 or the number of a step, up to {len(self.masks)}, got {strength}.")

    def _by_template(self, turns: list[Turn]) -> Int[Tensor, " token"]:
        """A chat as token ids, up to where the answer begins."""
        if not self.can_chat:
            raise ConfigError("A chat needs a model with a chat template, but this one has none. Continue a text instead.")
        text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        how = {"return_tensors": "pt", "return_token_type_ids": False, "add_special_tokens": False}
        return cast(Tensor, self.tokenizer(cast(str, text), **how)["input_ids"])[0]

    def _both(self, strength: int, prompts: tuple[Tensor, Tensor], new_tokens: int) -> tuple[str, str]:
        """Continue one prompt by the original model, and one by the masked one."""
        new_tokens = min(max(new_tokens, 1), MOST_NEW_TOKENS)
        places = getattr(self.original.config.get_text_config(), "max_position_embeddings", None) or MOST_PROMPT_TOKENS
        most, longest = min(MOST_PROMPT_TOKENS, places - new_tokens), max(map(len, prompts))
        if longest > most:
            raise ConfigError(
                f"A prompt or a chat must have at most {most:,} tokens, got {longest:,}. Shorten it or begin anew."
            )
        self.stopped.clear()
        before = self._continue(prompts[0], new_tokens)
        mask = masked(self.original, self.masks[strength - 1], constants=self.constants) if strength else nullcontext()
        with mask:
            return before, self._continue(prompts[1], new_tokens)

    def _continue(self, prompt: Tensor, new_tokens: int) -> str:
        """Continue a prompt by the model as it is now."""
        how = {"max_new_tokens": new_tokens, "stop": self.stopped.is_set}
        return "" if self.stopped.is_set() else continuations(self.original, self.tokenizer, [prompt], **how)[0]


def open_strengths(folder: str | Path, *, original: str | None = None, **how: Unpack[Loading]) -> Strengths:
    """Open what `unlearn` saved, and load the original model that its masks belong to.

    Args:
        folder: The folder of a result.
        original: The original model; the one in the result's record when None.
        **how: `device_map`, `revision` and `trust_remote_code` of the original model, as in `models.load`; its revision is the
            one in the record when left out.

    Returns:
        The model with the masks of all steps.

    Raises:
        MaskError: The folder is not the result of unlearning, or its masks belong to another model.
        ArchitectureError: The original model cannot be loaded.
    """
    folder = Path(folder)
    if not (folder / MASK_PATH).is_file() or not (folder / MARKER).is_file():
        raise MaskError(
            f"The result must be a folder from `unlearn`, with {MARKER} and {MASK_PATH}, but `{folder}` does not contain them. "
            "Pass the folder that was its output."
        )
    record = read_run_record(folder, UnlearnRecord)
    masks, constants = load_mask_path(folder / MASK_PATH), _constants(folder, record)
    name = original or models.loadable_name(record.model, record.revision)
    if original is None and how.get("revision") is None:
        how["revision"] = commit_of(record.revision)
    model, tokenizer = models.load(name, dtype=record.dtype, **how)
    masks[-1].check_fits(neuron_groups(model), str(model.name_or_path))
    return Strengths(model, tokenizer, masks, record, constants)


def _constants(folder: Path, record: UnlearnRecord) -> Constants | None:
    """What removed neurons of the run read."""
    if record.refit is not None:
        raise MaskError(
            f"A run with compensate={record.config.compensate} cannot be shown, as its last step alone is refitted, and no "
            f"mask holds that. Open report.html in `{folder}`, or run it again with compensate=none."
        )
    if record.config.ablation == "mode":
        raise MaskError(
            "A run with ablation=mode cannot be shown, as its result does not hold the modes of its neurons. Open "
            f"report.html in `{folder}`, or run it again with ablation=mean or ablation=zero."
        )
    if record.config.ablation == "zero":
        return None
    return mean_ablation(ActivationStatistics.load(folder / "statistics-retain.safetensors"))
