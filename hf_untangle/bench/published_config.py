"""Every setting of the public benchmarks, checked when it is made."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from hf_untangle.arguments import checked_calls
from hf_untangle.config import Config
from hf_untangle.methods.choose import method_names


@checked_calls
class PublishedBenchConfig(Config):
    """The settings of the public benchmarks."""

    methods: dict[str, dict[str, Any]] = Field(
        default={"auto": {}},
        min_length=1,
        description="What unlearns: methods by name, several joined by `+`, each with settings of `unlearn` that are its own.",
    )
    shared: dict[str, Any] = Field(default_factory=dict, description="Settings of `unlearn` for all methods.")
    questions: int | None = Field(default=None, ge=1, description="Questions of each set, at the most; None for all.")
    written_tokens: int = Field(default=200, ge=1, description="Tokens that are written in answer to a question of TOFU.")
    text_tokens: int = Field(default=2_048, ge=2, description="Tokens of a text that membership is told by.")
    batch_size: int = Field(default=8, ge=1, description="Questions in a forward pass.")

    @field_validator("methods")
    @classmethod
    def _known(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Refuse methods that do not exist."""
        for name in value:
            method_names(name.split("+"))
        return value

    @classmethod
    def presets(cls) -> "Mapping[str, PublishedBenchConfig]":
        """Settings by name.

        Returns:
            `default`, which asks everything, and `quick`, which asks 40 questions of each set.
        """
        return {"default": cls(), "quick": cls(questions=40, written_tokens=60)}
