"""Upload folders of this package to the Hub."""

from glob import escape
from pathlib import Path
from typing import TypedDict, Unpack

from huggingface_hub.utils import DEFAULT_IGNORE_PATTERNS, filter_repo_objects

from hf_untangle.arguments import checked_arguments
from hf_untangle.errors import HubError
from hf_untangle.files.names import links_in
from hf_untangle.folders import LISTING, MARKER, PREFIX, recover
from hf_untangle.hub.client import clear_problems, hub_client

REMOVED = "removed.safetensors"
"""The file that can undo a removal, which is never pushed: with it, whatever was removed would be public again."""


class PushOptions(TypedDict, total=False):
    """How to push, in the words of transformers."""

    private: bool | None
    """Whether a new repository is private; an existing one stays as it is."""
    token: str | None
    """A token with write access; the one of `hf auth login` when left out. It is sent to the Hub and kept nowhere."""
    revision: str | None
    """The branch to push to, which must exist; `main` when left out."""
    commit_message: str
    create_pr: bool
    """Whether to open a pull request instead of writing to the branch."""


@checked_arguments
def push_folder(folder: str | Path, repo_id: str, **options: Unpack[PushOptions]) -> str:
    """Push a folder that this package wrote, whole, in one commit; the repository is made when there is none.

    Files that the Hub has already are not sent again, so a push that was broken off continues where it was. The file that can
    undo a removal stays here, and so does what is only linked to.

    Args:
        folder: What `save_pretrained`, `to_adapter`, `save_adapters` or `hf-untangle` wrote.
        repo_id: `user/name` on the Hub.
        **options: As in `PushOptions`.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        HubError: The folder is not ours, or the Hub refuses; the message says what to do.
    """
    _check_ours(folder)
    api = hub_client(options.get("token"))
    with clear_problems(f"pushing to {repo_id}", repo_id):
        repo_id = api.create_repo(repo_id, private=options.get("private"), exist_ok=True).repo_id
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            ignore_patterns=_left_here(folder),
            revision=options.get("revision"),
            commit_message=options.get("commit_message", "Upload with hf_untangle"),
            create_pr=options.get("create_pr", False),
        )
    return commit.pr_url or commit.commit_url


@checked_arguments
def pushed_files(folder: str | Path) -> dict[str, int]:
    """List what `push_folder` would send; nothing is sent, and no token is needed.

    Args:
        folder: As in `push_folder`.

    Returns:
        Bytes of each file, by its name in the repository.

    Raises:
        HubError: The folder is not ours.
    """
    _check_ours(folder)
    sizes = {path.relative_to(folder).as_posix(): path for path in sorted(Path(folder).rglob("*")) if path.is_file()}
    sent = filter_repo_objects(sizes, ignore_patterns=[*_left_here(folder), *DEFAULT_IGNORE_PATTERNS])
    return {name: sizes[name].stat().st_size for name in sent}


def _check_ours(folder: str | Path) -> None:
    """Refuse a folder that this package did not write."""
    recover(Path(folder))
    if not (Path(folder) / MARKER).is_file():
        raise HubError(
            f"The folder `{folder}` must be one that hf_untangle wrote, but it has no {MARKER}. Nothing was pushed: save the "
            "result first, or push the folder with `hf upload`."
        )


def _left_here(folder: str | Path) -> list[str]:
    """Patterns of what is never sent: what can undo a removal, what is only linked to, and drafts."""
    links = [pattern for link in links_in(folder) for pattern in (escape(link), f"{escape(link)}/*")]
    return [REMOVED, LISTING, f"{PREFIX}*", *links]
