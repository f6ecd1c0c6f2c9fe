"""Every setting of a compression run, checked when it is made."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hf_untangle.compensation.reconstruct import STEPS
from hf_untangle.compensation.refit import Compensation, with_ablation
from hf_untangle.config import Config, known
from hf_untangle.data.documents import ChatMode
from hf_untangle.importance.registry import IMPORTANCE
from hf_untangle.masks.ablation import Ablation

Allocation = Literal["uniform", "global", "sensitivity"]
"""Whether every layer loses the same share, all layers compete by importance relative to their own mean, or layers lose the
less, the more the loss rises when they alone lose that share."""

Unit = Literal["neurons", "heads", "blocks", "layers", "experts", "any"]
"""What goes as a whole: single FFN neurons, key-value groups with their query heads, attention or FFN blocks, layers, experts,
or what costs least of layers, heads and neurons."""

Judge = Literal["importance", "influence", "loss", "routing"]
"""What a unit is judged by: the importance of its neurons, how far it turns hidden states, the loss without it, or how much an
expert writes for the tokens that are sent to it."""

JUDGES: dict[Unit, tuple[Judge, ...]] = {
    "neurons": ("importance",),
    "heads": ("importance", "influence"),
    "blocks": ("loss", "influence"),
    "layers": ("loss", "influence"),
    "experts": ("routing", "importance"),
    "any": ("loss", "influence"),
}
"""What each kind of unit can be judged by; the first where nothing is said. Of `any`, layers are judged so."""
SPEED, MEMORY = re.compile(r"\d+(\.\d+)?x"), re.compile(r"(\d+(?:\.\d+)?) ?(kB|MB|GB)")
"""What a speed and an amount of memory look like."""
SCALES = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


class PruneConfig(Config):
    """The settings of compression with one corpus. Ratios are shares of units, FFN neurons at first, from 0 to 1."""

    unit: Unit = Field(
        default="neurons",
        description="What goes as a whole: FFN neurons, key-value groups with their query heads (`heads`), attention or FFN "
        "`blocks`, `layers`, `experts`, or whatever costs least of layers, heads and neurons (`any`).",
    )
    judge: Judge | None = Field(
        default=None,
        description="What units are judged by: the `importance` of their neurons, their `influence` on hidden states, the "
        "`loss` without them, or the `routing` of experts; what suits the unit when left out.",
    )
    ratio: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="Share of the units to remove: of all FFN neurons, or of heads, blocks, layers or experts; of `any`, share "
        "of the parameters of all layers.",
    )
    parameters: int | None = Field(
        default=None, ge=1, description="Weights and biases to remove at the most, instead of a ratio."
    )
    memory: str | None = Field(
        default=None, description="What the weights may take at the most, such as `200MB`, instead of a ratio."
    )
    target: str | None = Field(
        default=None,
        description="How many times as fast a forward pass is to be on this machine, such as `1.5x`, instead of a ratio; it is "
        "measured before anything is chosen, and needs `compact`, `uniform` where nothing is said.",
    )
    per_layer: tuple[float, ...] | None = Field(
        default=None, description="Share of the FFN neurons of each layer to remove, instead of a ratio for all."
    )
    allocation: Allocation = Field(
        default="uniform",
        description="Whether every layer loses the same share, all layers compete (`global`), or those lose less without whose "
        "share alone the loss rises more (`sensitivity`).",
    )
    importance: str = Field(default="wanda", description="What a neuron is worth; the lowest go first.")
    ablation: Ablation = Field(
        default="zero", description="What a removed neuron reads: zero, its mean, or its mode, held in a bias at the end."
    )
    compensate: Compensation = Field(
        default="none",
        description="What makes up for removed neurons: nothing, their mean in a bias, new output weights for the kept ones in "
        "closed form (`least-squares`), or a training of each block after that (`block`).",
    )
    block_steps: int = Field(default=STEPS, ge=1, description="With compensate=block, steps of training per block.")
    compact: Literal["uniform", "ragged"] | None = Field(
        default=None, description="Take removed neurons out of the tensors: all layers as wide as the widest, or each as it is."
    )
    round_to: int | None = Field(
        default=None, ge=1, description="With compact, round widths up to a multiple, which fast kernels like: 64, 128 or 256."
    )
    tokens: int = Field(default=32_768, ge=1, description="Tokens that statistics are collected on.")
    search_tokens: int = Field(
        default=2048, ge=1, description="Tokens, among those, that layers and layouts are compared on by loss, where needed."
    )
    gradient_tokens: int = Field(default=12_288, ge=1, description="Tokens that gradients are collected on, where needed.")
    evaluation_tokens: int = Field(default=16_384, ge=1, description="Held-out tokens that the result is measured on.")
    block_size: int = Field(default=256, ge=2, description="Tokens in a block.")
    chat: ChatMode = Field(
        default="auto", description="Write rows by the model's chat template: where there is one (auto), always, or never."
    )
    batch_size: int = Field(default=8, ge=1, description="Blocks in a forward pass.")
    packed: bool = Field(default=True, description="Pack documents into full blocks; otherwise one padded document per block.")
    controls: int = Field(default=1, ge=0, description="Random masks of equal size that the result is compared with.")
    seed: int = Field(default=0, description="For the random masks.")

    @model_validator(mode="before")
    @classmethod
    def _mean_is_an_ablation(cls, values: Any) -> Any:
        """Take compensation by the mean for what it is."""
        return with_ablation(values)

    @model_validator(mode="before")
    @classmethod
    def _smaller_where_needed(cls, values: Any) -> Any:
        """Take tensors apart where nothing else makes sense: nothing is faster for zeros, and routers choose what is there."""
        if not isinstance(values, Mapping) or values.get("compact") is not None:
            return values
        is_needed = values.get("target") is not None or values.get("unit") == "experts"
        return {**values, "compact": "uniform"} if is_needed else values

    @field_validator("importance")
    @classmethod
    def _known_importance(cls, value: str) -> str:
        """Refuse an importance that does not exist."""
        return known(value, IMPORTANCE)

    @field_validator("per_layer")
    @classmethod
    def _shares(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        """Refuse shares outside 0 to 1, and a list that removes nothing."""
        if value is not None and (not all(0 <= share < 1 for share in value) or not any(value)):
            raise ValueError(f"every share must be at least 0 and below 1, and one above 0, got {list(value)}")
        return value

    @field_validator("memory")
    @classmethod
    def _amount_of_memory(cls, value: str | None) -> str | None:
        """Refuse what is no amount of memory."""
        if value is not None and not MEMORY.fullmatch(value):
            raise ValueError(f"it must be a number with kB, MB or GB, such as 200MB, got {value!r}")
        return value

    @field_validator("target")
    @classmethod
    def _speed_above_the_present_one(cls, value: str | None) -> str | None:
        """Refuse what is no speed, or none that is gained."""
        if value is not None and not (SPEED.fullmatch(value) and float(value[:-1]) > 1):
            raise ValueError(f"it must be a number above 1 with an x, such as 1.5x, got {value!r}")
        return value

    @property
    def judged_by(self) -> Judge:
        """What units are judged by, where nothing is said too."""
        return self.judge or JUDGES[self.unit][0]

    @property
    def most_bytes(self) -> float | None:
        """What the weights may take at the most."""
        found = MEMORY.fullmatch(self.memory or "")
        return None if found is None else float(found[1]) * SCALES[found[2]]

    @property
    def speed(self) -> float | None:
        """How many times as fast a forward pass is to be."""
        return None if self.target is None else float(self.target[:-1])

    @model_validator(mode="after")
    def _unit_can_do_it(self) -> "PruneConfig":
        """Refuse what a unit has no meaning for."""
        if self.judged_by not in JUDGES[self.unit]:
            raise ValueError(f"unit={self.unit!r} is judged by {' or '.join(JUDGES[self.unit])}, got judge={self.judge!r}")
        if self.unit != "neurons" and (self.per_layer is not None or self.ablation != "zero"):
            raise ValueError(f"per_layer and ablation are for unit='neurons' alone, got them with unit={self.unit!r}")
        if self.unit not in ("neurons", "heads") and self.compensate != "none":
            raise ValueError(f"compensate needs a block of which a part stays, got it with unit={self.unit!r}")
        if self.allocation != "uniform" and self.unit not in ("neurons", "heads")[: 1 + (self.allocation == "global")]:
            what = "neurons and heads" if self.allocation == "global" else "neurons"
            raise ValueError(f"allocation={self.allocation!r} is for {what}, got it with unit={self.unit!r}")
        if self.target is not None and self.unit in ("blocks", "experts"):
            raise ValueError(
                "target needs units that make a pass shorter, but a block alone leaves zeros and a token is sent to as many "
                f"experts as before, got unit={self.unit!r}"
            )
        if self.target is not None and self.allocation != "uniform":
            raise ValueError(f"target needs layers that lose the same share, got allocation={self.allocation!r}")
        return self

    @model_validator(mode="after")
    def _one_budget(self) -> "PruneConfig":
        """Refuse two budgets at once."""
        budgets = [name for name in ("parameters", "memory", "target", "per_layer") if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise ValueError(f"the budget must be either {' or '.join(f'`{one}`' for one in budgets)}, got both")
        if self.allocation != "uniform" and self.per_layer is not None:
            raise ValueError(
                f"`per_layer` says what each layer loses, got allocation={self.allocation!r} too: leave one of them out"
            )
        return self
