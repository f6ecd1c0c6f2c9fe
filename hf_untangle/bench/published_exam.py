"""Asks one model what public benchmarks ask: questions by the names of their sets, written as the published tables had them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.bench.published_config import PublishedBenchConfig
from hf_untangle.bench.question_benchmarks import spread
from hf_untangle.data.batches import token_blocks
from hf_untangle.data.chat_templates import has_template, written
from hf_untangle.data.corpora import corpus
from hf_untangle.data.documents import Chat
from hf_untangle.data.questions import Question, questions
from hf_untangle.evaluation.metric_inputs import FEEDS
from hf_untangle.evaluation.score_cache import EvaluationConfig, Material
from hf_untangle.evaluation.token_scores import TokenScores, token_scores
from hf_untangle.metrics.registry import METRICS

ENDS_HERE = "Stand-in"
"""An answer that is looked for in a written chat, to see what the template puts after it."""


@dataclass(frozen=True, eq=False)
class Exam:
    """One model, and how it is asked."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: PublishedBenchConfig
    system: str | None = None
    """What a chat template puts first, in benchmarks that are chats."""
    template: Mapping[str, Any] = field(default_factory=dict)
    """Other variables that the template reads."""

    @property
    def is_chat(self) -> bool:
        """Whether questions pass through the chat template."""
        return self.system is not None and has_template(self.tokenizer)

    def questions(self, name: str) -> tuple[Question, ...]:
        """Read a set of questions, or some of it that are spread over all.

        Args:
            name: Its name.

        Returns:
            The questions, with a system prompt where the benchmark has one.
        """
        found = questions(name)
        if self.config.questions is not None:
            found = tuple(spread(found, self.config.questions))
        return tuple(replace(one, chat=self._chat(one.prompt)) for one in found) if self.is_chat else found

    def material(self, asked: Sequence[Question], *, written_tokens: int = 1) -> Material:
        """Ask questions; nothing runs before a metric needs it.

        Args:
            asked: The questions.
            written_tokens: Tokens that the model writes in answer to one.

        Returns:
            What metrics are computed from.
        """
        how = EvaluationConfig(
            prompts=len(asked), max_new_tokens=written_tokens, batch_size=self.config.batch_size, chat=self.is_chat
        )
        return Material(self.model, self.tokenizer, how, pairs=tuple(asked), progress=False)

    def compute(self, name: str, material: Material, **more: Any) -> dict[str, Any]:
        """Compute a metric.

        Args:
            name: A key of `FEEDS`.
            material: What it is computed from.
            **more: Arguments of the metric.

        Returns:
            Its numbers.
        """
        feed = FEEDS[name]
        return METRICS[feed.metric].compute(**feed.columns(material), **more)

    def ended(self, asked: Sequence[Question]) -> tuple[Question, ...]:
        """Put what ends an answer after every answer: the published probabilities count it.

        Args:
            asked: The questions.

        Returns:
            The same with longer answers; a right answer stands for its paraphrase where there is none.
        """
        end = self._end()
        return tuple(
            replace(
                one,
                answer=one.answer + end,
                paraphrase=(one.paraphrase or one.answer) + end,
                wrong=tuple(wrong + end for wrong in one.wrong),
            )
            for one in asked
        )

    def texts(self, name: str) -> Sequence[TokenScores]:
        """Score running text, each document from its beginning.

        Args:
            name: The name of a corpus.

        Returns:
            The scores of its documents, as many as questions are asked.
        """
        width = min(self.config.text_tokens, self.tokenizer.model_max_length)
        count = self.config.questions or 100
        how = {"tokens": count * width, "part": "train", "block_size": width, "packed": False}
        blocks = token_blocks(corpus(name, split="all"), self.tokenizer, **how)
        return token_scores(self.model, blocks.first(count), batch_size=self.config.batch_size, progress=False)

    def _chat(self, prompt: str) -> Chat:
        """A question after the system prompt."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return Chat((*system, {"role": "user", "content": prompt}), settings=dict(self.template))

    def _end(self) -> str:
        """What ends an answer: what the template puts there, or the end-of-sequence token."""
        if not self.is_chat:
            return str(self.tokenizer.eos_token or "")
        chat = self._chat("?")
        whole = written(self.tokenizer, (*chat.messages, {"role": "assistant", "content": ENDS_HERE}), chat)
        return whole.rpartition(ENDS_HERE)[2].rstrip()
