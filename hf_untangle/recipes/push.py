"""Push: hand a saved result, or adapters, to the Hub."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from hf_untangle.hub.upload import REMOVED, PushOptions, push_folder, pushed_files
from hf_untangle.recipes.plan import Outcome, size_in_words


class PushTarget(BaseModel):
    """Where to push, with the token of `hf auth login` or `HF_TOKEN`; a recipe holds none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str = Field(description="The repository on the Hub: user/name. It is made when there is none.")
    private: bool = Field(default=False, description="Whether a new repository is private.")
    revision: str | None = Field(default=None, description="The branch to push to, which must exist.")
    message: str = Field(default="Upload with hf_untangle", description="The commit message.")
    pull_request: bool = Field(default=False, description="Whether to open a pull request instead of writing to the branch.")

    def push(self, folder: str) -> str:
        """Push a folder.

        Args:
            folder: What this package wrote.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            HubError: The folder is not ours, or the Hub refuses; the message says what to do.
        """
        options = PushOptions(
            private=self.private or None,
            revision=self.revision,
            commit_message=self.message,
            create_pr=self.pull_request,
        )
        return push_folder(folder, self.repository, **options)


class Recipe(PushTarget):
    """A job that pushes a folder."""

    task: Literal["push"] = Field(description="What kind of job this is.")
    folder: str = Field(description="What unlearn, adapter or save_pretrained wrote.")
    dry_run: bool = Field(
        default=False, description="List the files that would be sent, and send nothing; this needs no token and no network."
    )


def run(recipe: Recipe, *, progress: bool = True) -> Outcome:
    """Do the whole job of a recipe.

    Args:
        recipe: The job.
        progress: Ignored; huggingface_hub shows its own.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        HubError: The folder is not ours, or the Hub refuses; the message says what to do.
    """
    if recipe.dry_run:
        files = pushed_files(recipe.folder)
        listed = {"repository": recipe.repository, "files": [{"file": name, "bytes": size} for name, size in files.items()]}
        return Outcome(listed | {"bytes": sum(files.values())}, lambda console: _show_files(recipe, files, console))
    address = recipe.push(recipe.folder)
    record = {"repository": recipe.repository, "commit": address}
    return Outcome(record, lambda console: console.print(f"Pushed: {address}", soft_wrap=True))


def _show_files(recipe: Recipe, files: dict[str, int], console: Console) -> None:
    """Print every file that would be sent, with its size."""
    table = Table("file", "size")
    for name, size in files.items():
        table.add_row(name, size_in_words(size))
    table.add_row(f"all {len(files)}", size_in_words(sum(files.values())), style="bold")
    console.print(table)
    console.print(f"Nothing was sent. Without --dry-run these files go to {recipe.repository}.")
    if (Path(recipe.folder) / REMOVED).exists():
        console.print(f"{REMOVED}, which can undo the removal, always stays here.")
