"""Download files of this package from the Hub, or find them in a folder."""

from pathlib import Path
from typing import TypedDict, Unpack

from hf_untangle.folders import recover
from hf_untangle.hub.client import clear_problems, hub_client
from hf_untangle.hub.reachable import cache_alone_without_hub


class PullOptions(TypedDict, total=False):
    """How to read from the Hub, in the words of transformers."""

    revision: str | None
    """A branch, a tag or a commit; `main` when left out."""
    token: str | None
    """A token that may read the repository; the one of `hf auth login` when left out."""
    cache_dir: str | Path | None
    """Where copies are kept; the Hub's own cache when left out."""
    local_files_only: bool
    """Whether to ask the cache alone."""


def find_file(source: str | Path, filename: str, **options: Unpack[PullOptions]) -> Path:
    """Find a file in a folder, or else in a repository of the Hub.

    Without network, or with `HF_HUB_OFFLINE`, a copy in the cache serves.

    Args:
        source: A folder, or `user/name` on the Hub.
        filename: The file in it, such as `mask.safetensors`.
        **options: As in `PullOptions`.

    Returns:
        The file on this machine, which need not exist where the source is a folder.

    Raises:
        HubError: The Hub has no such repository, revision or file, or cannot be asked; the message says what to do.
    """
    recover(Path(source))
    if Path(source).is_dir():
        return Path(source) / filename
    api = hub_client(options.pop("token", None))
    with cache_alone_without_hub(source), clear_problems(f"reading {filename} of {source}", str(source)):
        return Path(api.hf_hub_download(str(source), filename, **options))


def find_folder(source: str | Path, **options: Unpack[PullOptions]) -> Path:
    """Find a folder on this machine, or bring a repository of the Hub here.

    Args:
        source: A folder, or `user/name` on the Hub.
        **options: As in `PullOptions`.

    Returns:
        The folder.

    Raises:
        HubError: The Hub has no such repository or revision, or cannot be asked; the message says what to do.
    """
    recover(Path(source))
    if Path(source).is_dir():
        return Path(source)
    api = hub_client(options.pop("token", None))
    with cache_alone_without_hub(source), clear_problems(f"reading {source}", str(source)):
        return Path(api.snapshot_download(str(source), **options))
