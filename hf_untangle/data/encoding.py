"""Documents as token ids, with the tokens that are answers."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from hf_untangle.data.chat_templates import Encoded, check_template, encoded_chat, encoded_pieces, has_template
from hf_untangle.data.documents import Chat, ChatMode, Content, Pair, Tokens
from hf_untangle.errors import CorpusError


@dataclass(frozen=True)
class Encoder:
    """What turns documents into token ids."""

    tokenizer: PreTrainedTokenizerBase
    chat: ChatMode
    bos: tuple[int, ...]
    """What the tokenizer puts before a text by itself."""

    def passes_template(self, content: Content) -> bool:
        """Tell whether a document is written by the chat template.

        Args:
            content: What is in the document.

        Returns:
            True for chats unless `chat` is False, and for prompts with completions where it is True or there is a template.

        Raises:
            CorpusError: A template is needed, and there is none.
        """
        wanted = self.chat is not False and (isinstance(content, Chat) or (isinstance(content, Pair) and self.chat is True))
        if wanted:
            check_template(self.tokenizer)
        return wanted or (isinstance(content, Pair) and self.chat == "auto" and has_template(self.tokenizer))

    def __call__(self, content: Content, where: str) -> Encoded:
        """Turn a document into token ids.

        Args:
            content: What is in it.
            where: Which corpus it is of, for errors.

        Returns:
            Its ids, and which of them are to be predicted.
        """
        if isinstance(content, Tokens):
            return self._checked(content, where)
        if self.passes_template(content):
            return encoded_chat(content if isinstance(content, Chat) else self._as_chat(content), self.tokenizer)
        if isinstance(content, Chat):
            return self._ended(encoded_pieces(content.turns(), self.tokenizer))
        if isinstance(content, Pair):
            return self._ended(encoded_pieces(content.pieces(), self.tokenizer))
        return self._ended(encoded_pieces([(content, True)], self.tokenizer))

    def _as_chat(self, content: Content) -> Chat:
        """A prompt with its completion as two turns."""
        assert isinstance(content, Pair)
        return Chat(content.messages())

    def _ended(self, encoded: Encoded) -> Encoded:
        """Plain text between BOS, where the tokenizer has it, and EOS, which belongs to an answer at the end."""
        ids, answers = encoded
        eos = self.tokenizer.eos_token_id
        more = [] if eos is None or ids[-1:] == [eos] else [int(eos)]  # type: ignore[arg-type]
        return [*self.bos, *ids, *more], [False] * len(self.bos) + answers + [bool(answers and answers[-1])] * len(more)

    def _checked(self, tokens: Tokens, where: str) -> Encoded:
        """Token ids that this tokenizer knows."""
        size = len(self.tokenizer)
        strange = next((one for one in tokens.ids if not 0 <= one < size), None)
        if strange is not None:
            raise CorpusError(
                f"Rows must be tokenized by the model's own tokenizer, which has {size} tokens, but `{where}` holds the id "
                f"{strange}. Pass the rows before they were tokenized."
            )
        return list(tokens.ids), [True] * len(tokens.ids) if tokens.answers is None else list(tokens.answers)
