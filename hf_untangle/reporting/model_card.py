"""The model card: what the Hub shows of a result, and what its search reads."""

import math

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_untangle import models
from hf_untangle.arguments import checked_arguments
from hf_untangle.configs.unlearn import PRESETS
from hf_untangle.hub import cards
from hf_untangle.hub.cards import as_markdown
from hf_untangle.records.shareable import for_markdown, shareable
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.attacks import attack_markdown, attack_settings
from hf_untangle.reporting.card_text import AnyRecord, limits, removed, selectivity, settings, short_name, title
from hf_untangle.reporting.evaluation import asked_rows
from hf_untangle.reporting.methods import method_arguments, method_sentences
from hf_untangle.reporting.repairs import repair_arguments, repair_heading, repair_sentences
from hf_untangle.reporting.table import USES, Use, comparison_rows, corpus_name, corpus_rows, summary
from hf_untangle.reporting.task_terms import understood_lines, wording
from hf_untangle.reporting.templating import render


@checked_arguments
def model_card(record: UnlearnRecord, license: str | None = None) -> ModelCard:
    """Write a run as a model card in the Hub's format, from nothing but the run's own record.

    The card shows the figure `plots/trade_off.png`, which `write_report` puts beside it.

    Args:
        record: The run.
        license: The license of the original model, which the result keeps; left out when None.

    Returns:
        The card; `card.data` is what the Hub's search reads.
    """
    shared = shareable(record)
    data, model, code = card_data(shared, license), hub_id(record) or short_name(record), snippet(shared)
    record = for_markdown(shared)
    text = render(
        "model_card.md.j2",
        record=record,
        words=wording(record),
        title=title(record),
        model=as_markdown(model),
        summary=summary(record),
        license=as_markdown(license) if license else None,
        forget=corpus_name(record, "forget"),
        retain=corpus_name(record, "retain"),
        rows=comparison_rows(record),
        by_corpus=corpus_rows(record),
        understood=understood_lines(record),
        asked=asked_rows(record),
        removed=removed(record),
        repairs=repair_sentences(record),
        repair_heading=repair_heading(record),
        trained=method_sentences(record),
        attacks=[(attack_settings(one), attack_markdown(one)) for one in record.attacks],
        selectivity=selectivity(record),
        snippet=code,
        settings=settings(record.config),
        limits=limits(record),
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def card_data(record: UnlearnRecord, license: str | None) -> ModelCardData:
    """Gather what the Hub's search reads.

    Of the relations to a base model that the Hub knows (adapter, merge, quantized, finetune) the last is the nearest: the
    weights were changed, and have the dtype that they had.

    Args:
        record: The run.
        license: The license of the original model.

    Returns:
        The data; it names a base model and data sets only where they are on the Hub, and no infinite number.
    """
    base = hub_id(record)
    return ModelCardData(
        base_model=base,
        base_model_relation="finetune" if base else None,
        license=license.lower() if license else None,
        library_name="transformers",
        pipeline_tag=wording(record).pipeline,
        tags=cards.TAGS,
        datasets=cards.hub_datasets(record.corpora.values()),
        metrics=["accuracy", "perplexity"],
        model_name=title(record),
        eval_results=[result for use in USES for result in _eval_results(record, use)],
    )


def hub_id(record: AnyRecord) -> str | None:
    """Tell the original model's id on the Hub.

    Args:
        record: The run.

    Returns:
        The id, or None where the model was a folder.
    """
    return cards.hub_id(record.model, record.revision)


def snippet(record: UnlearnRecord) -> str:
    """Write the program that repeats a run: the same model, corpora and settings.

    Args:
        record: The run.

    Returns:
        Python, in which texts that were passed in are left to the reader.
    """
    default = PRESETS["default"].model_dump()
    changed = {name: value for name, value in record.config.model_dump().items() if value != default[name]}
    arguments = {use: _corpus(record, use) for use in USES} | {name: _literal(value) for name, value in changed.items()}
    arguments |= method_arguments(record)
    name, commit = hub_id(record) or short_name(record), cards.commit_of(record.revision)
    revision = f", revision={commit!r}" if hub_id(record) and commit else ""
    loadable = models.loadable_name(record.model, record.revision)
    return render(
        "reproduce.py.j2",
        loader=wording(record).loader,
        arguments=arguments,
        repairs=repair_arguments(record),
        compaction=record.compaction,
        packaged=repr(loadable) if loadable != record.model else "",
        dtype=repr(record.dtype),
        model=f"{name!r}{revision}, dtype={record.dtype!r}",
    )


def _corpus(record: UnlearnRecord, use: Use) -> str:
    """A corpus as Python: by its name and place, or as a variable for the reader to fill."""
    corpus = record.corpora[f"{use}_train"]
    if "classes" in corpus:
        name, classes = corpus["corpus"].partition(":")[0], ",".join(map(str, corpus["classes"]))
        return repr(f"{name}:{classes}") if corpus["origin"] == "embedded" else f"{use}_classes"
    if corpus["origin"] in ("hub", "embedded"):
        return f"untangle.corpus({corpus['corpus']!r}, prefer={corpus['origin']!r})"
    return repr(corpus["corpus"]) if corpus["origin"] in ("file", "self") else f"{use}_texts"


def _literal(value: object) -> str:
    """A setting as Python; infinity has no literal."""
    return 'float("inf")' if value == math.inf else repr(value)


def _eval_results(record: UnlearnRecord, use: Use) -> list[EvalResult]:
    """The metrics of the result on one corpus, those that are finite."""
    corpus, metrics = record.corpora[f"{use}_test"], getattr(record.final, use)
    values = {
        ("accuracy", f"{wording(record).predicts} top-1 accuracy"): metrics.top1,
        ("accuracy", f"{wording(record).predicts} top-10 accuracy"): metrics.top10,
        ("perplexity", "perplexity"): metrics.perplexity,
    }
    return [
        EvalResult(
            task_type=wording(record).pipeline,
            dataset_type=cards.hub_dataset(corpus) or corpus["corpus"],
            dataset_name=f"{corpus['corpus']} ({use})",
            # The key of the part in the record; it also keeps two corpora of the same name apart.
            dataset_split=f"{use}_test",
            metric_type=kind,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for (kind, name), value in values.items()
        if math.isfinite(value)
    ]
