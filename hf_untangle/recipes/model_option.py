"""What every recipe chooses that loads a model: where its weights go, which of them, and whether its own code may run."""

from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedModel

from hf_untangle.by_name import Loading, opened
from hf_untangle.models import Dtype


class FolderOption(BaseModel):
    """How to load a model that lies in a folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device_map: str | None = Field(default=None, description="As in `from_pretrained`, such as `auto` or `cuda`.")
    trust_remote_code: bool = Field(
        default=False, description="Whether code that lies beside the weights may run; nobody is ever asked."
    )

    @property
    def placing(self) -> Loading:
        """Keywords of `models.load`, but for the dtype."""
        return cast(Loading, {name: getattr(self, name) for name in PLACING if name in type(self).model_fields})


class HubOption(FolderOption):
    """How to load what may be on the Hub."""

    revision: str | None = Field(default=None, description="A branch, a tag or a commit of what is on the Hub.")

    def named(self, model: str) -> PreTrainedModel | str:
        """A model to compare with: its name where that is enough to load it.

        Args:
            model: An embedded model, a folder, or a Hub id.

        Returns:
            The name; the model itself where a revision or its own code is asked for.
        """
        return opened(model, **self.placing) if self.revision or self.trust_remote_code else model


class ModelOption(HubOption):
    """How to load a model that is named."""

    dtype: Dtype = Field(default="auto", description="The dtype of the weights.")

    @property
    def loading(self) -> dict[str, Any]:
        """Keywords of `models.load`."""
        return {"dtype": self.dtype, **self.placing}


PLACING = ("device_map", "revision", "trust_remote_code")
"""Keys of a recipe that say where a model comes from and where it goes."""
LOADING = ("dtype", *PLACING)
"""Keys of a recipe that say how a model is loaded."""
