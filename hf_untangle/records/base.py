"""What every record of a run is."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A record that does not change, and that JSON can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
