"""The file of a BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909) with some of its tokens alone."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hf_untangle.errors import CompactionError

Content = dict[str, Any]
"""What is in a `tokenizer.json`."""
Parents = dict[str, set[str]]
"""By token: the halves of every merge that makes it."""


def check_bpe(content: Content) -> None:
    """Refuse a tokenizer whose tokens are not made by merges, or which would not read every text without some of them.

    Args:
        content: Its file.

    Raises:
        CompactionError: It is of another kind.
    """
    model = content["model"]
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix"):
        raise CompactionError(
            f"A vocabulary can be cut if its tokens are merged pairs (BPE), but this tokenizer is {model.get('type')}"
            + (" with a prefix inside of words" if model.get("continuing_subword_prefix") else "")
            + ". Use the model with its whole vocabulary."
        )


def always_kept(content: Content) -> set[str]:
    """The tokens without which some text could not be written, and those that were added to the vocabulary by hand.

    Args:
        content: The file of a tokenizer.

    Returns:
        Added tokens, the token for what is unknown, and the bytes; where a tokenizer does not fall back to bytes, everything
        that no merge makes.
    """
    model = content["model"]
    added = {token["content"] for token in content.get("added_tokens") or []}
    unknown = {model["unk_token"]} if model.get("unk_token") else set()
    made = {first + second for first, second in _merges(model)}
    if model.get("byte_fallback"):
        roots = {token for token in model["vocab"] if len(token) == len("<0x00>") and token.startswith("<0x")}
    else:
        roots = model["vocab"].keys() - made
    return (added | unknown | roots) & (model["vocab"].keys() | added)


def parents_of(content: Content) -> Parents:
    """List what tokens are merged from.

    Args:
        content: The file of a tokenizer.

    Returns:
        By token: the halves of every merge that makes it.
    """
    parents: Parents = {}
    for first, second in _merges(content["model"]):
        parents.setdefault(first + second, set()).update((first, second))
    return parents


def with_parents(parents: Parents, tokens: Collection[str]) -> set[str]:
    """Add what tokens are merged from, down to the tokens that no merge makes.

    A text is then cut into the same tokens as before, as long as these are among the ones that stay: every merge on the way to
    one of them stays, in its order, and a merge that is gone cannot come in between.

    Args:
        parents: What tokens are merged from.
        tokens: Some of the tokens.

    Returns:
        These and all of their parents.
    """
    found: set[str] = set()
    waiting = list(tokens)
    while waiting:
        token = waiting.pop()
        if token not in found:
            found.add(token)
            waiting += parents.get(token, ())
    return found


def cut_tokenizer(content: Content, new_ids: Mapping[str, int]) -> Content:
    """Write the file of a tokenizer that has some of the tokens, under other ids.

    Args:
        content: The file of the whole tokenizer, which is left as it is.
        new_ids: The tokens that stay, closed under parents, and the id of each.

    Returns:
        The file of the smaller one.
    """
    model = content["model"]
    merges = [
        pair
        for pair, (first, second) in zip(model["merges"], _merges(model), strict=True)
        if first in new_ids and second in new_ids and first + second in new_ids
    ]
    vocabulary = {token: new_ids[token] for token in sorted(model["vocab"], key=model["vocab"].__getitem__) if token in new_ids}
    added = [token | {"id": new_ids[token["content"]]} for token in content.get("added_tokens") or []]
    padding = content.get("padding")
    return content | {
        "model": model | {"vocab": vocabulary, "merges": merges},
        "added_tokens": added,
        "post_processor": _renumbered(content.get("post_processor"), new_ids),
        "padding": padding and padding | {"pad_id": new_ids[padding["pad_token"]]},
    }


def _merges(model: Content) -> Iterable[tuple[str, str]]:
    """The pairs that are merged, whichever way they are written."""
    return (tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"])  # type: ignore[misc]


def _renumbered(processor: Any, new_ids: Mapping[str, int]) -> Any:
    """What puts special tokens around a text, with their new ids."""
    if not isinstance(processor, dict):
        return processor
    changed = dict(processor)
    for name in ("sep", "cls"):
        if name in processor:
            changed[name] = [processor[name][0], new_ids[processor[name][0]]]
    if isinstance(tokens := processor.get("special_tokens"), dict):
        changed["special_tokens"] = {
            name: token | {"ids": [new_ids[each] for each in token["tokens"]]} for name, token in tokens.items()
        }
    if isinstance(inner := processor.get("processors"), list):
        changed["processors"] = [_renumbered(each, new_ids) for each in inner]
    return changed
