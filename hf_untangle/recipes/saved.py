"""Read a whole result back from the folder that it was saved in."""

from pathlib import Path

from pydantic import ValidationError

from hf_untangle import models
from hf_untangle.data.corpora import Corpus, corpus
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.folders import MARKER
from hf_untangle.masks.mask import FILE, NeuronMask
from hf_untangle.masks.mask_path import MASK_PATH, load_mask_path
from hf_untangle.pruning.scoring import read_pair
from hf_untangle.records.unlearning import UnlearnRecord
from hf_untangle.result import UnlearnResult
from hf_untangle.statistics.activations import ActivationStatistics


def read_result(folder: str | Path, *, forget: Corpus | None = None, retain: Corpus | None = None) -> UnlearnResult:
    """Load a result, with its test parts read anew.

    Args:
        folder: What `UnlearnResult.save_pretrained` wrote.
        forget: The run's forget corpus; found by its name when None.
        retain: The run's retain corpus, likewise.

    Returns:
        The result. Removed weights that were kept beside it stay where they are.

    Raises:
        ConfigError: The folder holds no result.
        CorpusError: A corpus must be given, or its test part is not the one that the run was measured on.
    """
    place = Path(folder)
    record = _read_record(place)
    model, tokenizer = models.load(str(folder))
    held_out = read_pair(_again(record, "forget", forget), _again(record, "retain", retain), tokenizer, "test", record.config)
    for use, blocks in (("forget", held_out.forget), ("retain", held_out.retain)):
        if blocks.fingerprint != record.corpora[f"{use}_test"]["fingerprint"]:
            raise CorpusError(
                f"The {use} corpus must be the one that the run was measured on, but the test part of "
                f"`{blocks.corpus.source}` has other tokens. Name the same corpus, in the same state."
            )
    return UnlearnResult(
        model,
        tokenizer,
        NeuronMask.load(place / FILE),
        load_mask_path(place / MASK_PATH),
        record,
        ActivationStatistics.load(place / "statistics-forget.safetensors"),
        ActivationStatistics.load(place / "statistics-retain.safetensors"),
        held_out,
    )


def _read_record(folder: Path) -> UnlearnRecord:
    """The record of a run, or an error that says what the folder should have been."""
    try:
        return UnlearnRecord.model_validate_json((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"`{folder}` must be a folder that unlearning has saved its result in, but there is no record of a run in its "
            f"{MARKER}. Run `hf-untangle unlearn` first."
        ) from error


def _again(record: UnlearnRecord, use: str, given: Corpus | None) -> Corpus:
    """The corpus that was given, or the one of that name where it can be found by it."""
    if given is not None:
        return given
    read = record.corpora[f"{use}_test"]
    if read["origin"] not in ("hub", "embedded"):
        raise CorpusError(
            f"The {use} corpus of the run was `{read['corpus']}` ({read['source']}), which cannot be found by its name alone. "
            f"Pass it again as {use}."
        )
    return corpus(read["corpus"], prefer=read["origin"])
