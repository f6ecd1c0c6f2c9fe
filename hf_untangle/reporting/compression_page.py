"""The page and the card of a compression, and the folder that holds them."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hf_untangle.hub.cards import as_markdown
from hf_untangle.records.compression import PruneRecord
from hf_untangle.records.shareable import for_markdown, shareable
from hf_untangle.reporting import formatting
from hf_untangle.reporting.card_text import origin, removed, settings, short_name
from hf_untangle.reporting.compression import HEADINGS, corpus_of, footprint_rows, prune_rows, prune_summary
from hf_untangle.reporting.model_card import hub_id
from hf_untangle.reporting.page import CAPTIONS
from hf_untangle.reporting.plots import removed_by_layer
from hf_untangle.reporting.report import DOTS_PER_INCH
from hf_untangle.reporting.style import PALETTE, inline_svg, quiet_style
from hf_untangle.reporting.templating import render

TAGS = ["pruning", "hf_untangle"]


def write_prune_report(folder: str | Path, record: PruneRecord, license: str | None = None) -> None:
    """Write the page (`report.html`), its figure (`plots/removed_by_layer.png`) and the model card (`README.md`).

    Args:
        folder: An existing folder.
        record: The run.
        license: The license of the original model, for the card.
    """
    record = shareable(record)
    figure = removed_by_layer(record)
    plots = Path(folder) / "plots"
    plots.mkdir(exist_ok=True)
    with quiet_style():
        figure.savefig(plots / "removed_by_layer.png", dpi=DOTS_PER_INCH)
    (Path(folder) / "report.html").write_text(prune_page(record), encoding="utf-8")
    prune_card(record, license).save(Path(folder) / "README.md")


def prune_page(record: PruneRecord) -> str:
    """Write a compression as one self-contained HTML page.

    Args:
        record: The run.

    Returns:
        The page.
    """
    record = shareable(record)
    caption = CAPTIONS["removed_by_layer"]
    return render(
        "compression.html.j2",
        record=record,
        title=prune_title(record),
        summary=prune_summary(record),
        key_numbers=prune_numbers(record),
        headings=HEADINGS,
        rows=prune_rows(record),
        footprints=footprint_rows(record),
        figures=[(caption, inline_svg(removed_by_layer(record), caption.heading))],
        limits=_limits(record),
        settings=settings(record.config),
        run=_run(record),
        palette=PALETTE,
    )


def prune_card(record: PruneRecord, license: str | None = None) -> ModelCard:
    """Write a compression as a model card in the Hub's format.

    Args:
        record: The run.
        license: The license of the original model, which the result keeps; left out when None.

    Returns:
        The card; `card.data` is what the Hub's search reads.
    """
    base = hub_id(record)
    data = ModelCardData(
        base_model=base,
        base_model_relation="finetune" if base else None,
        license=license.lower() if license else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
    )
    model = base or short_name(record)
    record = for_markdown(shareable(record))
    text = render(
        "compression_card.md.j2",
        record=record,
        title=prune_title(record),
        model=as_markdown(model),
        summary=prune_summary(record),
        corpus=corpus_of(record),
        removed="; ".join(removed(record)) if record.what_went else removed(record)[0],
        headings=HEADINGS,
        rows=prune_rows(record),
        footprints=footprint_rows(record),
        settings=settings(record.config),
        limits=_limits(record),
        license=license,
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def prune_title(record: PruneRecord) -> str:
    """Name the result.

    Args:
        record: The run.

    Returns:
        The model, and how much of it went.
    """
    return f"{short_name(record)}, {_share_removed(record)} of it pruned"


def prune_numbers(record: PruneRecord) -> list[tuple[str, str, bool]]:
    """Gather the numbers that a reader must see first.

    Args:
        record: The run.

    Returns:
        Name, value, and whether it is the one that the run was for.
    """
    return [
        ("parameters removed", _share_removed(record), True),
        ("perplexity before", formatting.perplexity(record.before.perplexity), False),
        ("perplexity after", formatting.perplexity(record.final.perplexity), False),
    ]


def _share_removed(record: PruneRecord) -> str:
    """The share of parameters that went."""
    return formatting.percent(record.parameters_removed / record.footprint_before.parameters)


def _limits(record: PruneRecord) -> tuple[str, ...]:
    """Say what the numbers do not show."""
    corpus = corpus_of(record)
    size = ()
    if record.footprint_after.parameters >= record.footprint_before.parameters:
        size = ("Removed neurons are zeros in tensors of the same shape: the checkpoint is neither smaller nor faster.",)
    return (
        *size,
        f"Only {corpus} was measured, on {formatting.amount(record.after.tokens)} held-out tokens. Other languages, tasks, "
        "code and the safety behavior of the model may have changed more.",
        *_refit(record),
        _training(record),
        "Everything else that holds for the original model, its biases and its conditions of use included, holds for this one.",
    )


def _refit(record: PruneRecord) -> tuple[str, ...]:
    """Say what was refitted, and that other choices were not."""
    if record.refit is None:
        return ()
    ridges = [ridge for ridge in record.refit.ridges.values() if ridge is not None]
    chosen = ", ".join(f"{ridge:g} ({ridges.count(ridge)} times)" for ridge in sorted(set(ridges)))
    return (
        f"{len(ridges)} of {len(record.refit.ridges)} output projections were refitted in closed form on "
        f"{formatting.amount(record.refit.tokens)} tokens of {corpus_of(record)}"
        + (f", with ridges of {chosen} times the mean square of the kept neurons" if chosen else "")
        + record.refit.trained
        + ". Random masks and the smallest weights have no refit: compare them with the row without one.",
    )


def _training(record: PruneRecord) -> str:
    """Say what was trained since."""
    if not record.repairs:
        return "Nothing was trained afterwards: fine-tuning would win back part of what was lost."
    last = record.repairs[-1]
    return (
        f"The model was trained afterwards on {last.corpus['corpus']} ({last.corpus['source']}), {last.settings['steps']} "
        f"steps, {formatting.amount(last.tokens)} tokens, which brought its perplexity from "
        f"{formatting.perplexity(last.before.perplexity)} to {formatting.perplexity(last.after.perplexity)}; a part of that is "
        "fitting this corpus."
    )


def _run(record: PruneRecord) -> list[tuple[str, str]]:
    """What ran, on what, when."""
    return [
        ("Original model", origin(record)),
        ("Neurons removed", "; ".join(removed(record))),
        ("Dtype", record.dtype),
        ("Device", record.device),
        ("Date", record.date),
        ("Time", formatting.duration(record.seconds)),
        ("Versions", ", ".join(f"{name} {version}" for name, version in record.versions.items())),
    ]
