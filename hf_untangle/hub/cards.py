"""Cards of what is pushed: text from a template, and the data that the Hub's search reads."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from hf_untangle.hub.client import hub_client
from hf_untangle.hub.reachable import cache_alone_without_hub

TEMPLATES = Path(__file__).with_name("templates")
TAGS = ["unlearning", "machine-unlearning", "pruning", "hf_untangle"]
"""What the Hub's search finds what is pushed by: both words for it, how it was done, and the library."""


COMMIT = re.compile(r"[0-9a-f]{40}")


MARKUP = {ord(sign): f"&#{ord(sign)};" for sign in "*[]|~\\$"} | {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("`"): "'",
}
"""What Markdown and HTML read as markup, and what shows the same."""
EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
"""Underscores that could begin or end emphasis: those within a word do not."""


def as_markdown(text: str) -> str:
    """Write a text so that a card shows it as it is, on one line.

    Args:
        text: A name that came from outside, such as that of a corpus.

    Returns:
        Markdown without markup, HTML or line breaks.
    """
    plain = "".join(sign if sign.isprintable() else " " for sign in text)
    return EDGE.sub("&#95;", " ".join(plain.split()).translate(MARKUP))


def commit_of(revision: str | None) -> str | None:
    """Tell the commit of the Hub from what else a revision may be.

    Args:
        revision: A commit, or the package that carried the weights.

    Returns:
        The commit, where it is one.
    """
    return revision if revision and COMMIT.fullmatch(revision) else None


def hub_id(model: str, revision: str | None = None) -> str | None:
    """Tell a model's id on the Hub.

    A name without an owner, such as `gpt2`, is an id only when a commit of the Hub is known.

    Args:
        model: Its name or path.
        revision: Which weights it was loaded with, as a record has it.

    Returns:
        The id, or None where the model was a folder.
    """
    try:
        validate_repo_id(model)
    except HFValidationError:
        return None
    known = revision is not None or ("/" in model and not Path(model).exists())
    return model if known else None


def shown_name(model: str, revision: str | None = None) -> str:
    """Name a model as anybody may read it: its id on the Hub, or the last part of its path.

    Args:
        model: Its name or path.
        revision: The Hub commit, where there is one.

    Returns:
        A name without the folders of this machine.
    """
    return hub_id(model, revision) or Path(model).name or model


def hub_dataset(corpus: dict[str, Any]) -> str | None:
    """Tell the id of the data set that a corpus was read from.

    Args:
        corpus: What was read, as a record has it.

    Returns:
        The id, or None where the corpus is not from the Hub.
    """
    return corpus["source"].partition(" ")[0] if corpus["origin"] == "hub" else None


def hub_datasets(corpora: Iterable[dict[str, Any]]) -> list[str] | None:
    """Tell the ids of the data sets that corpora were read from.

    Args:
        corpora: What was read, a record each.

    Returns:
        The ids in order, each once; None where no corpus is from the Hub.
    """
    found = {hub_dataset(corpus) for corpus in corpora} - {None}
    return sorted(map(str, found)) or None


def card(template: str, data: ModelCardData, **values: Any) -> ModelCard:
    """Fill in one of the card templates of this room, the way huggingface_hub does it.

    Args:
        template: Name of a file in `templates`.
        data: What the Hub's search reads.
        **values: What the template names.

    Returns:
        The card.
    """
    return ModelCard.from_template(data, template_path=str(TEMPLATES / template), **values)


def license_of(model: str, revision: str | None = None, token: str | None = None) -> str | None:
    """Ask the Hub for the license of a model, which whatever is made from it keeps.

    Args:
        model: Its name or path.
        revision: The Hub commit, where there is one.
        token: A token that may read it.

    Returns:
        The license, such as `apache-2.0`; None where the model is not on the Hub, names none, or cannot be asked for.
    """
    repo_id = hub_id(model, revision)
    if repo_id is None:
        return None
    try:
        with cache_alone_without_hub(model):
            found = hub_client(token).model_info(repo_id, revision=commit_of(revision)).card_data
    except Exception:  # A card without a license says so; that is better than no card.
        return None
    return found.license if found is not None else None
