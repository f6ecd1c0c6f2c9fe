"""What a benchmark has measured, written down piece by piece, so that a stopped run continues."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hf_untangle.folders import whole_file
from hf_untangle.records.base import Frozen

Record = TypeVar("Record", bound=Frozen)


def kept(file: Path, kind: type[Record], measure: Callable[[], Record]) -> Record:
    """Read a record, or measure it and write it down.

    Args:
        file: Where it is kept.
        kind: What it is.
        measure: Measures it, where there is none yet or it cannot be read.

    Returns:
        The record.
    """
    with suppress(OSError, ValueError):
        return kind.model_validate_json(file.read_bytes())
    record = measure()
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as draft:
        draft.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record
