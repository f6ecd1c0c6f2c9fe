"""The steps of a run as one adapter per step, so that the strength can be chosen after the fact."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from hf_untangle.arguments import checked_arguments
from hf_untangle.folders import MARKER
from hf_untangle.hub.cards import TAGS
from hf_untangle.masks.adapter import check_silences, write_adapter
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.records.shareable import for_markdown, shareable
from hf_untangle.records.unlearning import Scores, Step, UnlearnRecord
from hf_untangle.reporting import formatting
from hf_untangle.reporting.card_text import limits, short_name, title
from hf_untangle.reporting.model_card import hub_id
from hf_untangle.reporting.table import USES, corpus_name, drop_of, mean_drop
from hf_untangle.reporting.templating import render


def step_folder(number: int) -> str:
    """Name the folder of a step's adapter.

    Args:
        number: The step, from 1.

    Returns:
        Such as `step-03`, so that folders sort as steps do.
    """
    return f"step-{number:02}"


def check_adaptable(record: UnlearnRecord) -> None:
    """Refuse a run of which an adapter would be something else.

    Args:
        record: The run.

    Raises:
        MaskError: It trained weights, held removed neurons at another value than zero, or refitted those that stayed.
    """
    check_silences(record.config.ablation, refitted=record.refit is not None, trained=bool(record.training))


def write_adapter_path(
    folder: Path, record: UnlearnRecord, masks: Sequence[NeuronMask], source: str, license: str | None = None
) -> None:
    """Write every step's mask as a stock peft adapter in a folder of its own, with the record and a card beside them.

    Args:
        folder: A folder that exists.
        record: The run.
        masks: The mask of every step, weakest first.
        source: The name of the folder or repository that the adapters are loaded from.
        license: The license of the original model, for the card.

    Raises:
        MaskError: The run trained weights, held removed neurons at another value than zero, or refitted those that stayed.
    """
    check_adaptable(record)
    for step, mask in zip(record.history.steps, masks, strict=True):
        within = folder / step_folder(step.number)
        within.mkdir()
        write_adapter(within, mask.kept, mask.kinds, mask.model)
        mask.save(within / FILE)
    (folder / MARKER).write_text(shareable(record).model_dump_json(indent=2) + "\n")
    adapter_path_card(record, source, license).save(folder / "README.md")


@checked_arguments
def adapter_path_card(record: UnlearnRecord, source: str, license: str | None = None) -> ModelCard:
    """Write the card of all steps, from nothing but the run's own record.

    Args:
        record: The run.
        source: The name of the folder or repository that the adapters are loaded from.
        license: The license of the original model; left out when None.

    Returns:
        The card, with what every step costs on the validation parts.
    """
    base, record = hub_id(record), for_markdown(shareable(record))
    data = ModelCardData(
        base_model=base,
        base_model_relation="adapter" if base else None,
        license=license.lower() if license else None,
        library_name="peft",
        pipeline_tag="text-generation",
        tags=[*TAGS, "ia3"],
    )
    text = render(
        "adapter_path_card.md.j2",
        record=record,
        title=title(record),
        model=base or short_name(record),
        source=source,
        license=license,
        forget=corpus_name(record, "forget"),
        retain=corpus_name(record, "retain"),
        rungs=[(step, step_folder(step.number), *_drops(step, record.history.base)) for step in record.history.steps],
        limits=limits(record)[:2],
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")


def _drops(step: Step, base: Scores) -> list[str]:
    """What a step, and then its random controls, took from the forget and from the retain corpus."""
    drops = [formatting.drop(drop_of(use, step.scores, base)) for use in USES]
    return drops + [formatting.drop(mean_drop(use, step.controls, base)) if step.controls else "" for use in USES]
