"""Reading a result back, of whichever function it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from hf_untangle.arguments import checked_arguments
from hf_untangle.data.corpora import CorpusSource
from hf_untangle.errors import ConfigError
from hf_untangle.files.json_text import read_json
from hf_untangle.files.regular import Expected
from hf_untangle.folders import MARKER
from hf_untangle.hub.download import PullOptions
from hf_untangle.records.saved import result_folder
from hf_untangle.results.base import Result
from hf_untangle.results.pruned import PruneResult
from hf_untangle.results.unlearned import UnlearnResult


@checked_arguments
def read_result(
    source: str | Path,
    *,
    corpora: Mapping[str, CorpusSource] | None = None,
    dtype: str = "checkpoint",
    device_map: str | None = None,
    trust_remote_code: bool = False,
    **options: Unpack[PullOptions],
) -> Result:
    """Read a result of `unlearn` or of `prune`, as its record says.

    Args:
        source: `user/name` on the Hub, or the folder that `save_pretrained` wrote.
        corpora: Corpora of the run by their use, where they cannot be found by their name.
        dtype: The dtype of the weights; the checkpoint's own by default.
        device_map: As in `from_pretrained` of transformers.
        trust_remote_code: Whether code in the checkpoint may run.
        **options: `revision`, `token`, `cache_dir` and `local_files_only`, as in `PullOptions`.

    Returns:
        The result.

    Raises:
        ConfigError: There is no such result.
        CorpusError: A corpus must be passed, or is not the one that the run was measured on.
    """
    folder = result_folder(source, **options)
    kind: type[Result] = PruneResult if _run_of(folder) == "prune" else UnlearnResult
    loading: dict[str, Any] = {"dtype": dtype, "device_map": device_map, "trust_remote_code": trust_remote_code}
    return kind.from_pretrained(folder, corpora=corpora, **loading)


def _run_of(folder: Path) -> Any:
    """Which function wrote a record; what cannot be read is refused by the full reader."""
    try:
        content = read_json(Expected(folder / MARKER, "the record of a run", ConfigError))
    except ConfigError:
        return None
    return content.get("run") if isinstance(content, dict) else None
