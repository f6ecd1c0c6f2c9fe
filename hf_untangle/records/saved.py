"""Records on disk: reading one back, finding its folder, and the corpora that it was measured on, read anew."""

from pathlib import Path
from typing import Any, TypeVar, Unpack

from hf_untangle.data.blocks import Blocks
from hf_untangle.data.catalogue import OWN
from hf_untangle.data.corpora import Corpus, CorpusSource, corpus, together
from hf_untangle.data.own_text_file import FILE as OWN_TEXT
from hf_untangle.data.own_text_file import load_own_text
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.files.names import is_plain_name
from hf_untangle.files.records import read_record
from hf_untangle.files.regular import Expected
from hf_untangle.folders import MARKER, recover
from hf_untangle.hub.download import PullOptions, find_folder
from hf_untangle.hub.upload import REMOVED
from hf_untangle.masks.undo_removal import RemovedWeights
from hf_untangle.records.base import RunRecord


def result_folder(source: str | Path, **options: Unpack[PullOptions]) -> Path:
    """Find the folder of a result, on this machine or on the Hub.

    Args:
        source: A folder, or `user/name` on the Hub.
        **options: As in `PullOptions`.

    Returns:
        A folder with a record.

    Raises:
        ConfigError: It holds no result.
        HubError: The Hub has no such repository or revision, or cannot be asked.
    """
    folder = find_folder(source, **options)
    if not (folder / MARKER).is_file():
        raise ConfigError(
            f"`{source}` must be a folder or a repository that a result was saved in, but it has no {MARKER}. Run "
            "`untangle.unlearn` or `untangle.prune` first, and save its result."
        )
    return folder


def corpus_again(read: dict[str, dict[str, Any]], use: str, given: CorpusSource | None, folder: Path) -> Corpus:
    """The corpus that was passed, or the one of that name where it can be found by it, or in the folder of the result.

    Args:
        read: What was read, as a record has it, by use and part.
        use: `forget`, `retain`, or `data`, which a compression has.
        given: The corpus, or None to find it by its name.
        folder: The folder of the result, which holds text that the model wrote itself.

    Returns:
        The corpus.

    Raises:
        CorpusError: It cannot be found by its name alone.
    """
    if given is not None:
        return corpus(given)
    seen = read["test" if use == "data" else f"{use}_test"]
    found = [_found_again(one, folder) for one in _members(seen)]
    if None in found:
        raise CorpusError(
            f"The {use} corpus of the run was `{seen['corpus']}` ({seen['source']}), which cannot be found by its name alone. "
            f"Pass it again: corpora={{{use!r}: ...}}."
        )
    return together([one for one in found if one is not None])


def _members(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """Each of the corpora that a record has read as one, of which nothing is believed."""
    members = seen.get("members", [seen])
    named = isinstance(members, list) and all(isinstance(one, dict) for one in members)
    return members if named and members else [{}]


def _found_again(seen: dict[str, Any], folder: Path) -> Corpus | None:
    """One corpus, where its name or the folder of the result is enough to find it."""
    name, origin = seen.get("corpus"), seen.get("origin")
    if origin == OWN and (folder / OWN_TEXT).is_file():
        return load_own_text(folder)
    return corpus(name, prefer=origin) if isinstance(name, str) and origin in ("hub", "embedded") else None


def same_tokens(blocks: Blocks, seen: dict[str, Any], use: str) -> None:
    """Refuse a corpus whose test part has other tokens than the run was measured on.

    Args:
        blocks: The test part as it was read now.
        seen: The test part as the record has it.
        use: What the corpus is for.

    Raises:
        CorpusError: Their fingerprints differ.
    """
    if blocks.fingerprint != seen["fingerprint"]:
        raise CorpusError(
            f"The {use} corpus must be the one that the run was measured on, but the test part of "
            f"`{blocks.record()['source']}` has other tokens. Pass the same corpus, in the same state."
        )


def read_removed(folder: Path) -> RemovedWeights | None:
    """Read the removed weights beside a saved result.

    Args:
        folder: The folder of the result.

    Returns:
        The weights; None where they were not kept.
    """
    recover(folder)
    return RemovedWeights.load(folder / REMOVED) if (folder / REMOVED).exists() else None


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
