"""Smaller vocabularies: the tokens that a corpus needs, and the rows of the embedding and of the head that belong to them.

In small models the embedding is a large part of all parameters, and most of its rows are of tokens that one language or domain
never uses (COMPACT, arXiv:2509.06836, cuts them too).
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_untangle.architecture.inference_mode import evaluation_mode
from hf_untangle.architecture.meta_models import skeleton
from hf_untangle.architecture.projections import bias_of, weight_of
from hf_untangle.architecture.untouched import all_or_nothing
from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.by_name import ModelName, opened
from hf_untangle.compaction.assemble import assemble
from hf_untangle.compaction.bpe import always_kept, check_bpe, cut_tokenizer, parents_of, with_parents
from hf_untangle.compaction.edits import Edit, Edits
from hf_untangle.compaction.verify import TOLERANCE
from hf_untangle.data.corpora import Corpus, CorpusSource, corpus
from hf_untangle.data.documents import Part
from hf_untangle.data.encoding import Encoder
from hf_untangle.data.packing import bos_prefix
from hf_untangle.data.tokenizers import find_tokenizer
from hf_untangle.display import fields_repr
from hf_untangle.errors import CompactionError, ConfigError
from hf_untangle.folders import temporary_folder
from hf_untangle.masks.removal import check_in_memory

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
READ_BACK = 100
"""So many documents are read by both tokenizers, to compare them."""
SHOWN = 64
"""Tokens of a text that both models read, to compare them."""


@checked_calls
@dataclass(frozen=True, eq=False)
class SmallerVocabulary:
    """A model and a tokenizer that know some tokens of those they are made from."""

    model: PreTrainedModel
    """A model with fewer rows in its embedding and its head; all else is shared with the larger one."""
    tokenizer: PreTrainedTokenizerBase
    """Its tokenizer, with ids of its own."""
    old_ids: Int[Tensor, " token"]
    """For each new id, the id in the larger vocabulary."""
    __repr__ = fields_repr


@checked_arguments
@all_or_nothing
@torch.no_grad()
def cut_vocabulary(
    model: PreTrainedModel | ModelName,
    data: CorpusSource = "general",
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    tokens: int = 1_000_000,
    part: Part = "train",
    size: int | None = None,
) -> SmallerVocabulary:
    """Keep the tokens that a corpus needs, and take all others out of a model and of its tokenizer.

    Bytes, special tokens, and all that a kept token is merged from stay, so that every text can still be written, and a text of
    kept tokens is cut into the same ones. Other texts take more tokens than before, and of these the model knows what it knew.

    Args:
        model: A causal language model with a byte-level BPE tokenizer, or one that falls back to bytes. It is left as it was. A
            name or path is loaded.
        data: The text that is to be written in as few tokens as before; a list of several shares the tokens equally.
        tokenizer: The model's tokenizer; found by the model's name when None.
        tokens: How many tokens of the text are read at the most.
        part: The part of the corpus.
        size: How many tokens stay at the most: the most frequent of the text first, and then, as a short text does not show
            all that others of its kind need, those that were merged first, which are the most frequent ones of the text that
            the tokenizer was made from. As many as the text needs when None.

    Returns:
        The smaller model and its tokenizer, which both save with `save_pretrained` and load with plain `from_pretrained`.

    Raises:
        CompactionError: The tokenizer is of another kind, or the model has more tensors by token than are understood.
        ConfigError: Not even the tokens that must stay fit into `size`.
    """
    model = opened(model)
    check_in_memory(model, ())
    tokenizer = find_tokenizer(model, tokenizer)
    content = _content(tokenizer)
    check_bpe(content)
    texts = _Texts(corpus(data), part, tokenizer, tokens)
    # A tokenizer writes its vocabulary anew each time that it is asked.
    ids = tokenizer.get_vocab()
    kept = _chosen(content, tokenizer, texts.counts(), _named_ids(model), size)
    by_id = sorted(kept, key=ids.__getitem__)
    old_ids = torch.tensor([ids[token] for token in by_id])
    small_tokenizer = _rewritten(tokenizer, content, {token: number for number, token in enumerate(by_id)})
    small = _smaller(model, old_ids)
    _check_texts(tokenizer, small_tokenizer, texts, old_ids, exact=size is None)
    _check_logits(model, small, texts.first_ids(), old_ids)
    return SmallerVocabulary(small, small_tokenizer, old_ids)


@dataclass(frozen=True)
class _Texts:
    """The text that is read, as ids of the whole vocabulary."""

    source: Corpus
    part: Part
    tokenizer: PreTrainedTokenizerBase
    tokens: int

    def ids(self) -> Iterable[list[int]]:
        """The ids of each document, of each corpus until its share of the tokens is used up."""
        members = self.source.members or (self.source,)
        for one in members:
            encode, left = Encoder(self.tokenizer, one.chat, tuple(bos_prefix(self.tokenizer))), self.tokens // len(members)
            for document in one.examples(self.part):
                if left <= 0:
                    break
                ids = encode(document.content, one.name)[0][:left]
                left -= len(ids)
                yield ids

    def counts(self) -> Counter[int]:
        """How often each id comes."""
        return Counter(one for ids in self.ids() for one in ids)

    def first_ids(self) -> list[int]:
        """Some ids of the first document."""
        return next(iter(self.ids()))[:SHOWN]


def _content(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The file of a tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CompactionError(
            f"A vocabulary can be cut if the tokenizer is one of the library `tokenizers`, got {type(tokenizer).__name__}. "
            "Load a fast one."
        )
    return json.loads(backend.to_str())


def _chosen(
    content: dict[str, Any], tokenizer: PreTrainedTokenizerBase, counts: Counter[int], named: set[int], size: int | None
) -> set[str]:
    """Choose the tokens that stay: those that must, of those that a text has as many as may, and then the first merges."""
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    special = set(tokenizer.all_special_tokens) & tokenizer.get_vocab().keys()
    needed = always_kept(content) | special | {tokens[one] for one in named if one in tokens}
    parents = parents_of(content)
    kept = with_parents(parents, needed)
    if size is not None and len(kept) > size:
        raise ConfigError(
            f"The size must leave room for the {len(kept):,} bytes and special tokens that have to stay, got size={size:,}."
        )
    seen = [tokens[number] for number, _ in counts.most_common()]
    if size is None:
        return with_parents(parents, kept | set(seen))
    # Merges stand in the order in which they were made, from the most frequent pair on.
    for token in chain(seen, parents):
        more = with_parents(parents, [token]) - kept
        if len(kept) + len(more) <= size:
            kept |= more
    return kept


def _rewritten(
    tokenizer: PreTrainedTokenizerBase, content: dict[str, Any], new_ids: Mapping[str, int]
) -> PreTrainedTokenizerBase:
    """The smaller tokenizer, read from the files that it would be saved as."""
    with temporary_folder() as folder:
        tokenizer.save_pretrained(folder)
        (folder / TOKENIZER).write_text(json.dumps(cut_tokenizer(content, new_ids), ensure_ascii=False), encoding="utf-8")
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if "added_tokens_decoder" in settings:
            decoder = settings["added_tokens_decoder"].values()
            settings["added_tokens_decoder"] = {str(new_ids[token["content"]]): token for token in decoder}
            (folder / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
        for file in ("vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"):
            (folder / file).unlink(missing_ok=True)
        small = type(tokenizer).from_pretrained(folder)
    small.name_or_path = ""
    return small


def _smaller(model: PreTrainedModel, old_ids: Int[Tensor, " token"]) -> PreTrainedModel:
    """The model with the rows of some tokens alone."""
    config = _renumbered(deepcopy(model.config), old_ids)
    config.get_text_config().vocab_size = len(old_ids)
    edits = _edits(model, old_ids)
    expected = {name: edits[name].shape(tuple(one.shape)) if name in edits else tuple(one.shape) for name, one in _all(model)}
    found = {name: tuple(one.shape) for name, one in _all(skeleton(type(model), config))}
    if strange := [name for name, shape in expected.items() if found.get(name) != shape]:
        raise CompactionError(
            f"The embedding and the head must be all that has a row per token, but `{strange[0]}` of this "
            f"{type(model).__name__} changes its shape with the vocabulary too. Use the model with its whole vocabulary."
        )
    small = assemble(model, config, edits)
    # The tokenizer that lies under the old name is another one.
    small.name_or_path = small.config.name_or_path = ""
    if getattr(small, "generation_config", None) is not None:
        small.generation_config = _renumbered(small.generation_config, old_ids)
    return small


def _all(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every parameter and buffer, tied ones under each of their names."""
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _edits(model: PreTrainedModel, old_ids: Int[Tensor, " token"]) -> Edits:
    """What becomes of the embedding and of the head."""
    head = model.get_output_embeddings()
    tensors = [weight_of(model.get_input_embeddings()), *([] if head is None else [weight_of(head)])]
    tensors += [bias] if head is not None and (bias := bias_of(head)) is not None else []
    by_token = {id(one) for one in tensors}
    names = [name for name, one in _all(model) if id(one) in by_token]
    return {name: Edit(stays=[(0, old_ids)]) for name in names}


def _named_ids(model: PreTrainedModel) -> set[int]:
    """The ids that settings of a model name."""
    found: set[int] = set()
    for settings in (model.config, model.config.get_text_config(), getattr(model, "generation_config", None)):
        for value in _ids_in(settings).values():
            found.update(value if isinstance(value, list) else [value])
    return found


def _ids_in(settings: Any) -> dict[str, int | list[int]]:
    """The settings that are ids of tokens."""
    named = {name: value for name, value in vars(settings or object).items() if name.endswith("_token_id")}
    lists = {name: value for name, value in named.items() if isinstance(value, list)}
    return {name: value for name, value in named.items() if isinstance(value, int) and value >= 0} | lists


def _renumbered(settings: Any, old_ids: Int[Tensor, " token"]) -> Any:
    """Settings that name tokens by their new ids; what no token has is None."""
    new = {int(old): number for number, old in enumerate(old_ids)}
    parts = [settings]
    if isinstance(settings, PreTrainedConfig) and settings.get_text_config() is not settings:
        parts.append(settings.get_text_config())
    for one in parts:
        for name, value in _ids_in(one).items():
            setattr(one, name, [new[each] for each in value if each in new] if isinstance(value, list) else new.get(value))
    return settings


def _check_texts(
    whole: PreTrainedTokenizerBase,
    small: PreTrainedTokenizerBase,
    texts: _Texts,
    old_ids: Int[Tensor, " token"],
    *,
    exact: bool,
) -> None:
    """Let both tokenizers read the same documents."""
    for number, ids in enumerate(texts.ids()):
        if number == READ_BACK:
            return
        text = cast(str, whole.decode(ids))
        before, after = (one(text, add_special_tokens=False)["input_ids"] for one in (whole, small))
        same_text = whole.decode(before) == small.decode(after)
        # What was cut off at the end, or between two characters, is read anew as other tokens.
        known = exact and set(before) <= set(old_ids.tolist())
        if not same_text or (known and old_ids[torch.tensor(after, dtype=torch.long)].tolist() != before):
            raise CompactionError(
                f"The smaller tokenizer must write texts as the whole one does, but document {number} of `{texts.source.name}` "
                "comes back changed. Use the model with its whole vocabulary."
            )


def _check_logits(model: PreTrainedModel, small: PreTrainedModel, ids: list[int], old_ids: Int[Tensor, " token"]) -> None:
    """Let both models read the same tokens."""
    new = {int(old): number for number, old in enumerate(old_ids)}
    read = [one for one in ids if one in new]
    with evaluation_mode(model), evaluation_mode(small):
        expected = model(input_ids=torch.tensor([read], device=model.device)).logits[..., old_ids.to(model.device)].float()
        found = small(input_ids=torch.tensor([[new[one] for one in read]], device=model.device)).logits.float()
    if not float((found - expected).norm()) <= TOLERANCE.get(model.dtype, 5e-2) * float(expected.norm()):
        raise CompactionError(
            f"The smaller {type(model).__name__} must say of the kept tokens what the whole one does, but it does not. Use the "
            "model with its whole vocabulary."
        )
