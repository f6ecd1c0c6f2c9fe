"""The card of statistics that travel alone: of which model and which text they are."""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from hf_untangle.arguments import checked_arguments
from hf_untangle.files.names import public_text
from hf_untangle.hub.cards import as_markdown, card, hub_datasets, hub_id, shown_name


@checked_arguments
def statistics_card(  # noqa: PLR0913 (one argument a fact)
    model: str, revision: str | None, dtype: str, corpora: Sequence[dict[str, Any]], *, roots: bool, source: str
) -> ModelCard:
    """Write the card of activation statistics.

    Args:
        model: The model's name or path.
        revision: The Hub commit that it was loaded from, where there is one.
        dtype: The dtype in which it ran.
        corpora: What was read, a record each.
        roots: Whether sqrt|z| was summed too.
        source: The repository that they are loaded from.

    Returns:
        The card, from nothing but the statistics' own record.
    """
    data = ModelCardData(
        base_model=hub_id(model, revision),
        library_name="hf_untangle",
        tags=["interpretability", "activation-statistics", "hf_untangle"],
        datasets=hub_datasets(corpora),
    )
    return card(
        "statistics.md.j2",
        data,
        model=as_markdown(shown_name(model, revision)),
        revision=revision,
        dtype=dtype,
        corpora=[_told(corpus) for corpus in corpora],
        tokens=sum(corpus["tokens"] for corpus in corpora),
        roots=roots,
        source=as_markdown(source),
    )


def _told(corpus: dict[str, Any]) -> dict[str, Any]:
    """What was read, as Markdown; what was not written down is left open."""
    texts = ("corpus", "source", "license", "part", "fingerprint")
    return corpus | {field: as_markdown(public_text(str(corpus.get(field) or ""))) for field in texts}
