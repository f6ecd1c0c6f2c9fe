"""What metrics are fed with: each thing is asked of the model when the first metric needs it, and then kept for the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.config import Config
from hf_untangle.data.answers import answer_blocks, second_halves
from hf_untangle.data.batches import TokenBlocks, token_blocks
from hf_untangle.data.chat_templates import check_template, has_template, written
from hf_untangle.data.corpora import Corpus, Part, with_chat
from hf_untangle.data.documents import ChatMode
from hf_untangle.data.questions import Question
from hf_untangle.distributed import place, together
from hf_untangle.errors import ConfigError
from hf_untangle.evaluation.generation import continuations
from hf_untangle.evaluation.token_scores import TokenScores, token_scores

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class EvaluationConfig(Config):
    """The settings of an evaluation."""

    tokens: int = Field(default=8_192, ge=1, description="Tokens of a corpus.")
    part: Part = Field(default="test", description="Which part of it.")
    block_size: int = Field(
        default=256,
        ge=2,
        description="Tokens that a model sees at once; half of them are the prompt where a corpus has no answers of its own.",
    )
    prompts: int = Field(default=16, ge=1, description="Prompts that are completed by writing, which is slow.")
    max_new_tokens: int = Field(default=40, ge=1, description="Tokens of a completion.")
    batch_size: int = Field(default=8, ge=1, description="Blocks in one forward pass.")
    limit: int | None = Field(default=None, ge=1, description="Questions of each lm-eval task; None for all.")
    chat: ChatMode = Field(
        default="auto",
        description="Write pairs and rows by the model's chat template: where there is one (auto), always, or never.",
    )


@dataclass(frozen=True)
class Completion:
    """What a model wrote."""

    prompt: str
    text: str
    reference: str
    """What follows in truth."""

    @property
    def whole(self) -> str:
        """Prompt and completion."""
        return self.prompt + self.text


class Material:
    """A model with what it is judged on; everything is measured once at the most, when it is first asked for."""

    def __init__(  # noqa: PLR0913 (what an evaluation is made of)
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: EvaluationConfig,
        *,
        corpus: Corpus | None = None,
        pairs: tuple[Question, ...] = (),
        holdout: Corpus | None = None,
        progress: bool = True,
    ) -> None:
        """Measure nothing yet.

        Args:
            model: A causal language model, masked or not.
            tokenizer: Its tokenizer.
            settings: How much is read.
            corpus: Running text.
            pairs: Prompts and answers; the halves of the documents of the corpus stand for them when there are none.
            holdout: Text of the same kind that the model has not seen.
            progress: Whether to show progress bars.
        """
        self.model, self.tokenizer, self.settings, self.progress = model, tokenizer, settings, progress
        self._corpus, self._pairs, self._holdout = corpus, pairs, holdout

    @cached_property
    def text(self) -> tuple[TokenScores, ...]:
        """Scores of running text, block by block."""
        return self._scores(self._blocks(_there(self._corpus, "corpus="), packed=True))

    @cached_property
    def held_out(self) -> tuple[TokenScores, ...]:
        """The same of text that the model has not seen."""
        return self._scores(self._blocks(_there(self._holdout, "holdout="), packed=True))

    @cached_property
    def answers(self) -> tuple[TokenScores, ...]:
        """Scores of right answers, or of the second halves of documents."""
        return self._answers(lambda one: one.answer) if self._pairs else self._scores(self._halves)

    @cached_property
    def paraphrases(self) -> tuple[TokenScores, ...]:
        """Scores of right answers in other words."""
        return self._answers(lambda one: _there(one.paraphrase, "pairs= with `paraphrase` in every row"))

    @cached_property
    def wrong(self) -> list[list[TokenScores]]:
        """Scores of wrong answers, question by question."""
        return self._each(lambda one: _there(one.wrong, "pairs= with `wrong` in every row"))

    @cached_property
    def choices(self) -> list[list[TokenScores]]:
        """Scores of the texts of all choices, question by question."""
        return self._each(_choices)

    @cached_property
    def letters(self) -> list[list[TokenScores]]:
        """Scores of the letters of all choices after a prompt that lists them, question by question."""
        return self._each(lambda one: LETTERS[: len(_choices(one))], _listed)

    @cached_property
    def right(self) -> list[int]:
        """The number of the right choice of every question."""
        return [_choices(one).index(one.answer) for one in self._questions]

    @cached_property
    def completions(self) -> tuple[Completion, ...]:
        """What the model writes, several processes each their share."""
        given = self._given[: self.settings.prompts]
        number, count = place()

        def write() -> list[str]:
            prompts = [prompt for prompt, _ in given[number::count]]
            return continuations(self.model, self.tokenizer, prompts, max_new_tokens=self.settings.max_new_tokens)

        parts = together(write)
        texts = (parts[row % count][row // count] for row in range(len(given)))
        shown = (prompt if isinstance(prompt, str) else self._decoded(prompt) for prompt, _ in given)
        after = (reference for _, reference in given)
        return tuple(Completion(*one) for one in zip(shown, texts, after, strict=True))

    @property
    def _given(self) -> list[tuple[str | Tensor, str]]:
        """Prompts, as token ids where they are more than plain text, and what follows them in truth."""
        if self._pairs:
            return [(self._ids(self._prompt(one)) if self.templated else one.prompt, one.answer) for one in self._pairs]
        halves = self._halves.rows(slice(self.settings.prompts))
        return [self._cut(ids, answers) for ids, answers in zip(halves.input_ids, halves.predicted(), strict=True)]

    def _cut(self, ids: Int[Tensor, " position"], answers: Bool[Tensor, " position"]) -> tuple[str | Tensor, str]:
        """One block before its last answer, and that answer."""
        end = int(answers.nonzero().max()) + 1
        start = int((~answers[:end]).nonzero().max()) + 1
        is_text = self._corpus is not None and self._corpus.kind == "text"
        return self._decoded(ids[:start]) if is_text else ids[:start], self._decoded(ids[start:end])

    @cached_property
    def templated(self) -> bool:
        """Whether pairs are written by the chat template of the model."""
        chats = any(one.is_chat for one in self._pairs)
        if self.settings.chat is True or (chats and self.settings.chat == "auto"):
            check_template(self.tokenizer)
        return self.settings.chat is not False and has_template(self.tokenizer)

    @cached_property
    def _halves(self) -> TokenBlocks:
        """Documents of the corpus from their beginnings, whose second halves are the answers to the first."""
        return second_halves(self._blocks(_there(self._corpus, "corpus= or pairs="), packed=False))

    @property
    def _questions(self) -> tuple[Question, ...]:
        """The questions, which must be there."""
        return _there(self._pairs, "pairs=")

    def _blocks(self, corpus: Corpus, *, packed: bool) -> TokenBlocks:
        """Read some of a corpus."""
        how = self.settings
        read = with_chat(corpus, how.chat)
        return token_blocks(read, self.tokenizer, tokens=how.tokens, part=how.part, block_size=how.block_size, packed=packed)

    def _scores(self, blocks: TokenBlocks) -> tuple[TokenScores, ...]:
        """Scores of some blocks."""
        return token_scores(self.model, blocks, batch_size=self.settings.batch_size, progress=self.progress)

    def _answers(self, answer: Callable[[Question], str]) -> tuple[TokenScores, ...]:
        """Scores of one answer to every question."""
        prompts = [self._prompt(one) for one in self._questions]
        return self._scores(self._answer_blocks(prompts, [answer(one) for one in self._questions]))

    def _each(
        self, answers: Callable[[Question], Sequence[str]], ask: Callable[[Question], str] | None = None
    ) -> list[list[TokenScores]]:
        """Scores of several answers to every question, run all together."""
        several = [list(answers(one)) for one in self._questions]
        prompts = [
            self._prompt(one, None if ask is None else ask(one))
            for one, texts in zip(self._questions, several, strict=True)
            for _ in texts
        ]
        flat = iter(self._scores(self._answer_blocks(prompts, sum(several, []))))
        return [[next(flat) for _ in texts] for texts in several]

    def _answer_blocks(self, prompts: list[str], answers: list[str]) -> TokenBlocks:
        """Blocks of prompts, as `_prompt` writes them, with answers."""
        return answer_blocks(prompts, answers, self.tokenizer, templated=self.templated)

    def _prompt(self, question: Question, text: str | None = None) -> str:
        """What the model is given: a question, or another text for it, up to where the answer begins."""
        if not self.templated:
            return question.prompt if text is None else text
        chat = question.turns(text)
        return written(self.tokenizer, chat.messages, chat, prompt=True)

    def _ids(self, prompt: str) -> Int[Tensor, " position"]:
        """A prompt that a template has written, as token ids."""
        return torch.tensor(self.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def _decoded(self, ids: Tensor) -> str:
        """Tokens as text."""
        return cast(str, self.tokenizer.decode(ids, skip_special_tokens=True))


def _choices(question: Question) -> tuple[str, ...]:
    """The choices of a question, which must have some."""
    return _there(question.choices, "pairs= with `choices` in every row")


def _listed(question: Question) -> str:
    """A question with its choices by letter."""
    lines = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False))
    return "\n".join([question.prompt, *lines, "Answer:"])


def _there(value: Any, what: str) -> Any:
    """Refuse a metric whose material was not passed."""
    if not value:
        raise ConfigError(f"One of these metrics needs {what}, got none. Pass it, or choose other metrics.")
    return value
