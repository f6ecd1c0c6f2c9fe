"""What a refit of output projections writes down."""

from typing import Annotated

from pydantic import Field

from hf_untangle.compensation.refit import Refit
from hf_untangle.records.base import Count, Frozen, Seconds

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A penalty."""
Share = Annotated[float, Field(ge=0, le=1)]
"""An error relative to a larger one."""


class RefitRecord(Frozen):
    """A refit of output projections, by which kept neurons write what removed ones did, as far as they can."""

    tokens: Count
    """What it was fitted on, the blocks included on which the ridge was chosen."""
    ridges: dict[str, Positive | None]
    """By group: the penalty relative to the mean square of its kept neurons; None where no refit was better than none."""
    errors: dict[str, Share]
    """By group: squared error of what the projection writes on blocks that were held out, relative to that without a refit."""
    seconds: Seconds

    @classmethod
    def of(cls, refit: Refit | None) -> "RefitRecord | None":
        """Write down how a refit came about.

        Args:
            refit: The refit, if there is one.

        Returns:
            Its record, if there is one.
        """
        if refit is None:
            return None
        return cls(tokens=refit.tokens, ridges=refit.ridges, errors=refit.errors, seconds=refit.seconds)
