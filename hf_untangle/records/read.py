"""Reading the record of a run back from the folder of its result."""

from pathlib import Path
from typing import TypeVar

from hf_untangle.errors import ConfigError
from hf_untangle.files.names import is_plain_name
from hf_untangle.files.records import read_record
from hf_untangle.files.regular import Expected
from hf_untangle.folders import MARKER
from hf_untangle.records.base import RunRecord

Record = TypeVar("Record", bound=RunRecord)


def read_run_record(folder: str | Path, kind: type[Record]) -> Record:
    """Read the record of a run.

    Args:
        folder: The folder of its result.
        kind: Which record it must be.

    Returns:
        The record, in today's format. A saved record names an original from this machine by the last part of its path alone:
        where a checkpoint of that name lies beside the result, it is the one.

    Raises:
        ConfigError: There is none, it is damaged, or it is of another kind of run or of a newer format.
    """
    record = read_record(kind, Expected(Path(folder) / MARKER, f"the record of a run ({kind.__name__})", ConfigError))
    beside = Path(folder).absolute().parent / record.model
    found = is_plain_name(record.model) and (beside / "config.json").is_file()
    return record.model_copy(update={"model": str(beside)}) if found else record
