"""Blocks of tokens: what of them a model reads, predicts, and is counted on."""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from hf_untangle.arguments import checked_calls
from hf_untangle.data.corpora import Corpus
from hf_untangle.data.documents import IGNORED, Part
from hf_untangle.display import notebook_html, short_repr
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError
from hf_untangle.progress import Bar, WorkKind, track

Task = Literal["next token", "masked token", "class"]
"""What a model predicts of its inputs."""


@checked_calls
@dataclass(frozen=True)
class TokenBlocks:
    """Blocks of tokens from one part of a corpus, ready for a model: a sequence of blocks, each of which is such blocks too.

    `len(blocks)` counts blocks, `blocks[3]` is one of them without its padding, `blocks[:8]` the first eight.
    """

    input_ids: Int[Tensor, "block position"]
    """Token ids."""
    attention_mask: Bool[Tensor, "block position"]
    """False where a position is padding."""
    counted: Bool[Tensor, "block position"]
    """Positions that statistics count: answers where there are some, never padding, and BOS only by option."""
    corpus: Corpus
    """The corpus that the tokens come from."""
    part: Part
    """The part of the corpus."""
    documents: int
    """How many documents were read for all blocks."""
    answers: Bool[Tensor, "block position"] | None = None
    """Tokens that are to be predicted, such as the assistant's turns of a chat; all of them when None."""
    members: Int[Tensor, " block"] | None = None
    """Which of `corpus.members` each block is from, where the corpus is several."""
    understood: str = ""
    """What the rows were taken for, such as `100 chats, template of SmolLM2, 1,234 answer tokens of 3,400`."""
    task: ClassVar[Task] = "next token"
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def __len__(self) -> int:
        """The number of blocks."""
        return len(self.input_ids)

    def __getitem__(self, index: int | slice) -> "TokenBlocks":
        """One block, or some in a row, as wide as the longest of them."""
        return self.rows(index if isinstance(index, slice) else row_at(index, len(self)))

    def __iter__(self) -> Iterator["TokenBlocks"]:
        """The blocks one by one."""
        return (self[number] for number in range(len(self)))

    def describe(self) -> str:
        """Say in one line how many blocks these are, and of what."""
        documents = f", {self.documents:,} documents" if self.documents else ""
        understood = f": {self.understood}" if self.understood else ""
        return (
            f"{len(self):,} blocks of up to {self.width} tokens, {self.tokens:,} of which count, of {self.corpus.name} "
            f"({self.part} part{documents}){understood}"
        )

    @property
    def tokens(self) -> int:
        """How many positions are counted."""
        return int(self.counted.sum())

    @property
    def width(self) -> int:
        """How many positions a block has."""
        return self.input_ids.shape[1]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell these tokens, and which of them count, from any others."""
        digest = hashlib.sha256(repr(tuple(self.input_ids.shape)).encode())
        for tensor in (self.input_ids, self.attention_mask, self.counted, self.answers):
            if tensor is not None:
                digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def rows(self, rows: slice | Int[Tensor, " row"]) -> "TokenBlocks":
        """Take some of the blocks, as wide as the longest of them.

        Args:
            rows: Which.

        Returns:
            Those blocks.
        """
        some = self.attention_mask[rows]
        width = int(some.any(0).sum()) if len(some) else self.width
        taken = {name: tensor[rows] for name, tensor in self._tensors().items()}
        return replace(self, **{name: one[:, :width] if one.ndim > 1 else one for name, one in taken.items()})

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that has a row per block."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def predicted(self) -> Bool[Tensor, "block position"]:
        """The tokens that are to be predicted: answers, or everything but padding."""
        return self.attention_mask if self.answers is None else self.answers

    def influences(self) -> Bool[Tensor, "block position"]:
        """The positions that a gradient of the loss is summed over.

        Where only answers are predicted, their loss depends on the prompts too, so all of these count.
        """
        return self.counted if self.answers is None else self.attention_mask

    def labels(self) -> Int[Tensor, "block position"]:
        """What the model's own loss is taken on: the tokens to predict, which it shifts, and IGNORED for all others."""
        return self.input_ids.masked_fill(~self.predicted(), IGNORED)

    def training_rows(self) -> list[dict[str, Tensor]]:
        """The blocks one by one, as a `Trainer` takes them: inputs, and the labels that its loss is taken on."""
        columns = {"labels": self.labels(), **self.inputs(torch.device("cpu"))}
        return [{name: column[row] for name, column in columns.items()} for row in range(len(self.input_ids))]

    def queries(self) -> tuple[Bool[Tensor, "block position"], Int[Tensor, " prediction"]]:
        """Where the model predicts something that is known, and what it should be.

        Returns:
            The positions whose next token is in the block and to be predicted, and those next tokens, block by block.
        """
        known = self.attention_mask[:, :-1] & self.predicted()[:, 1:]
        return F.pad(known, (0, 1)), self.input_ids[:, 1:][known]

    def by_member(self) -> dict[str, "TokenBlocks"]:
        """The blocks of each corpus that this one is made of, by name; nothing where it is one."""
        if self.members is None:
            return {}
        found = {one.name: (self.members == number).nonzero().flatten() for number, one in enumerate(self.corpus.members)}
        return {
            name: replace(self.rows(rows), corpus=one, members=None)
            for (name, rows), one in zip(found.items(), self.corpus.members, strict=True)
        }

    def batches(self, batch_size: int) -> Iterator["TokenBlocks"]:
        """Cut the blocks into batches.

        Args:
            batch_size: Blocks a batch; the last one may have fewer.

        Yields:
            Consecutive blocks, in order.

        Raises:
            ConfigError: The batch size is not positive.
        """
        if batch_size < 1:
            raise ConfigError(f"A batch must have at least one block, got batch_size={batch_size}.")
        for start in range(0, len(self.input_ids), batch_size):
            block = slice(start, start + batch_size)
            yield self.rows(block)

    def mine(self) -> "TokenBlocks":
        """The blocks that this process reads: all of them, or every n-th of n processes; there may be none.

        Returns:
            Some of the blocks, in order. Together the processes have each block once.
        """
        number, count = place()
        return self.rows(slice(number, None, count))

    def bar(self, what: str, *, progress: bool, kind: WorkKind = "forward") -> AbstractContextManager[Bar]:
        """A progress bar that counts tokens, and the work that each of them is.

        Args:
            what: What is being done, such as `statistics of`.
            progress: Whether to show it. Of several processes the main one does.
            kind: What kind of work that is.

        Returns:
            The bar, open inside a `with` block.
        """
        return track(f"{what} {self.corpus.name}", self.tokens, unit="token", progress=progress, kind=kind)

    def first(self, blocks: int) -> "TokenBlocks":
        """Take the first few blocks.

        Args:
            blocks: How many; all of them when there are fewer.

        Returns:
            Those blocks.
        """
        return next(self.batches(blocks))

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What a model is called with; without an attention mask when no position is padding.

        Args:
            device: Where the model's embedding is.

        Returns:
            `input_ids`, and `attention_mask` when it says anything.
        """
        inputs = {"input_ids": self.input_ids.to(device)}
        if not self.attention_mask.all():
            inputs["attention_mask"] = self.attention_mask.long().to(device)
        return inputs

    def record(self) -> dict[str, Any]:
        """Describe the tokens for a report.

        Returns:
            Name, origin, source and license of the corpus, the part, how many documents, blocks and tokens,
            and the fingerprint. Of rows with answers, `tokens` are those of the answers, and it says what was understood; of
            several corpora it names each. JSON can hold all of it.
        """
        more: dict[str, Any] = {} if self.answers is None else {"understood": self.understood}
        if self.corpus.members:
            more["members"] = [{"corpus": one.name, "origin": one.origin} for one in self.corpus.members]
        return {
            "corpus": self.corpus.name,
            "origin": self.corpus.origin,
            "source": self.corpus.source,
            "license": self.corpus.license,
            "part": self.part,
            "documents": self.documents,
            "blocks": len(self.input_ids),
            "tokens": self.tokens,
            "fingerprint": self.fingerprint,
            **more,
        }


def row_at(index: int, count: int) -> slice:
    """One row, as a slice.

    Args:
        index: Its number, from the end where it is negative.
        count: How many rows there are.

    Returns:
        The slice that holds that row alone.

    Raises:
        IndexError: There is no such row.
    """
    number = range(count)[index]
    return slice(number, number + 1)
