"""What a benchmark leaves: its record, the table and the notes, in a folder and in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_json
from rich.console import Console
from rich.table import Table

from hf_untangle.config import Config
from hf_untangle.folders import MARKER, check_replaceable, whole_folder
from hf_untangle.recipes.plan import Outcome


def checked_preset(kind: type[Config], settings: Mapping[str, Any], output: str, *, quick: bool) -> str:
    """Refuse settings that are out of range and a folder that is not to be replaced, before anything is loaded.

    Args:
        kind: The settings of the benchmark.
        settings: Those that differ.
        output: The folder.
        quick: Whether they start from the preset `quick`.

    Returns:
        The name of the preset that they start from.
    """
    preset = "quick" if quick else "default"
    kind.resolve(preset, **settings)
    check_replaceable(output)
    return preset


def saved_benchmark(output: str, record: BaseModel, files: Mapping[str, str], table: Table, notes: Sequence[str]) -> Outcome:
    """Save a benchmark, and say how to show it.

    Args:
        output: The folder, which is replaced as a whole.
        record: Everything that was measured.
        files: Texts beside the record, by the names of their files.
        table: What a terminal shows.
        notes: Sentences below it.

    Returns:
        What came of it.
    """
    with whole_folder(output) as draft:
        (draft / MARKER).write_bytes(to_json(record, indent=2))
        for name, text in files.items():
            (draft / name).write_text(text, encoding="utf-8")

    def show(console: Console) -> None:
        console.print(table)
        for note in notes:
            console.print(f"- {note}", highlight=False)
        console.print(f"Saved in {output}: {', '.join((MARKER, *files))}.")

    found: dict[str, Any] = record.model_dump(mode="json")
    return Outcome(found, show)
