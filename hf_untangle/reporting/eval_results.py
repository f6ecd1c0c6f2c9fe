"""What a run measured on data sets of the Hub, as the Hub reads it from `.eval_results/*.yaml` of a model's repository."""

from pathlib import Path

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from hf_untangle.hub.cards import hub_dataset
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.reporting.table import USES, Use
from hf_untangle.reporting.task_terms import wording

FILE = Path(".eval_results") / "hf_untangle.yaml"
"""Where the Hub looks for it: https://huggingface.co/docs/hub/eval-results."""


def eval_results(record: UnlearnRecord) -> list[EvalResultEntry]:
    """Gather the accuracy on every corpus of a run that is a data set of the Hub.

    Args:
        record: The run.

    Returns:
        One entry per such corpus; a corpus from elsewhere has no id that the Hub would know.
    """
    return [_entry(record, use, dataset) for use in USES if (dataset := hub_dataset(record.corpora[f"{use}_test"]))]


def _entry(record: UnlearnRecord, use: Use, dataset: str) -> EvalResultEntry:
    """The accuracy on one corpus, in percent as leaderboards have it."""
    corpus, metrics = record.corpora[f"{use}_test"], getattr(record.final, use)
    words = wording(record)
    return EvalResultEntry(
        dataset_id=dataset,
        task_id=words.pipeline,
        value=round(100 * metrics.top1, 2),
        date=record.date,
        notes=f"{words.predicts} top-1 accuracy in percent on {metrics.tokens:,} held-out {words.unit} to {use}, "
        f"fingerprint {corpus['fingerprint']}",
    )


def write_eval_results(folder: Path, record: UnlearnRecord) -> None:
    """Write the file, where there is something to write.

    Args:
        folder: The folder of the result.
        record: The run.
    """
    entries = eval_results(record)
    if entries:
        (folder / FILE).parent.mkdir(exist_ok=True)
        (folder / FILE).write_text(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False), encoding="utf-8")
