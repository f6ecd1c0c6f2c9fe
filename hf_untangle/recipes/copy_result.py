"""Copy masks, statistics, figures, record and card next to the compacted checkpoint."""

import shutil
from pathlib import Path

from huggingface_hub import ModelCard

from hf_untangle.compaction.folder_to_folder import FolderRecord
from hf_untangle.data.own_text_file import FILE as OWN_TEXT
from hf_untangle.errors import ConfigError
from hf_untangle.files.names import own_files
from hf_untangle.folders import MARKER
from hf_untangle.masks.mask import FILE
from hf_untangle.masks.mask_path import MASK_PATH
from hf_untangle.records.saved import read_run_record
from hf_untangle.records.shareable import shareable
from hf_untangle.records.unlearning import CompactionRecord, UnlearnRecord
from hf_untangle.reporting.model_card import model_card

BELONGINGS = (FILE, MASK_PATH, OWN_TEXT, "statistics-*.safetensors", "report.html", "plots/*.png")
"""Files of a result that say the same of its smaller checkpoint, as patterns. What can undo the removal is not among them."""
CARD = "README.md"


def carry_result(source: Path, target: Path, made: FolderRecord, *, round_to: int | None) -> None:
    """Complete a smaller checkpoint with what the result that it was made from has beside its weights.

    Masks and statistics are those of the original model, whose neurons they count. The record and the card tell of the
    compaction. A checkpoint that is no result of unlearning has nothing to carry.

    Args:
        source: The checkpoint that was read.
        target: The smaller one, before it takes its name.
        made: What was done.
        round_to: What FFN widths were rounded up to.
    """
    try:
        record = read_run_record(source, UnlearnRecord)
    except ConfigError:
        return
    for file in own_files(source, BELONGINGS):
        place = target / file.relative_to(source)
        place.parent.mkdir(exist_ok=True)
        shutil.copy2(file, place)
    compaction = CompactionRecord(
        layout=str(made.layout),
        round_to=round_to,
        parameters=made.parameters_after,
        needs_package=made.needs_package,
        left=made.left,
    )
    record = shareable(record).model_copy(update={"compaction": compaction, "weights": None})
    model_card(record, _license(source)).save(target / CARD)
    (target / MARKER).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _license(source: Path) -> str | None:
    """The license that the card of a result names."""
    return ModelCard.load(source / CARD).data.to_dict().get("license") if (source / CARD).is_file() else None
