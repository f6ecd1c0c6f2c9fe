"""Push: hand a saved result, or adapters, to the Hub."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hf_untangle.hub.upload import PushOptions, push_folder
from hf_untangle.recipes.plan import Outcome


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
    address = recipe.push(recipe.folder)
    record = {"repository": recipe.repository, "commit": address}
    return Outcome(record, lambda console: console.print(f"Pushed: {address}", soft_wrap=True))
