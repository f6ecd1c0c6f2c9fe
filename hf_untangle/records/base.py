"""What every record is: plain values that do not change, in a format that has a number."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, model_validator

from hf_untangle.config import Plain
from hf_untangle.evaluation.next_token import NextTokenMetrics


def _possible(metrics: NextTokenMetrics) -> NextTokenMetrics:
    """Refuse metrics that no model can have."""
    shares = (metrics.top1, metrics.top10)
    if metrics.tokens < 1 or not all(0 <= share <= 1 for share in shares) or math.isnan(metrics.loss) or metrics.loss < 0:
        raise ValueError(f"must be metrics that a model can have, got {metrics}")
    return metrics


Metrics = Annotated[NextTokenMetrics, AfterValidator(_possible)]
"""Metrics on some tokens."""
Count = Annotated[int, Field(ge=0)]
"""A number of things."""
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A duration."""


def says_what_was_read(corpus: dict[str, Any]) -> bool:
    """Tell whether a record of a corpus has what reports and cards say of it.

    Args:
        corpus: What was read.

    Returns:
        Whether it names the corpus, where it comes from, how much of it was read, and its fingerprint.
    """
    texts = ("corpus", "origin", "source", "part", "fingerprint")
    tokens, terms = corpus.get("tokens"), corpus.get("license", 0)
    named = all(isinstance(corpus.get(field), str) for field in texts) and (terms is None or isinstance(terms, str))
    return named and isinstance(tokens, int) and tokens >= 0


FORMAT = 2
"""Number of the format that records are written in. It grows whenever a field changes its name or its meaning."""


class Frozen(Plain):
    """A record that does not change, and that JSON can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class TrainingRecord(Frozen):
    """A training on the retain corpus alone, after neurons were removed, in which they stayed removed."""

    settings: dict[str, str | int | float]
    """Every setting of the repair, by name."""
    corpus: dict[str, Any]
    """The blocks that it read."""
    original: str | None
    """The model whose predictions it learned from as well; None where it learned from the text alone."""
    tokens: Count
    """How many tokens it was trained on, repetitions included."""
    parameters: Count
    """How many parameters were trained."""
    seconds: Seconds
    """Of the training alone."""
    _model: Any = PrivateAttr(default=None)

    @property
    def model(self) -> Any:
        """The model that was repaired, where `repair` loaded it by its name; no file has it."""
        return self._model

    def keep(self, model: Any) -> None:
        """Hold a model that nobody else holds.

        Args:
            model: The model that was repaired.
        """
        self._model = model


class RunRecord(Frozen):
    """What the records of all runs have in common.

    A record of an older format is read too: `MIGRATIONS` brings it to the next one, step by step. One of a newer format is
    refused, since what it says may not be what it seems to say.
    """

    format: int = FORMAT
    """Number of the format; records without one are of the first."""
    model: str
    """Name of the original model."""
    revision: str | None
    """Where its weights come from: the commit on the Hub, or the package and the quantized file; None for a folder."""
    original_weights: str | None = None
    """Fingerprint of the original model's weights."""
    weights: str | None = None
    """Fingerprint of the weights that this record speaks of; None where it was copied to another layout of them."""
    dtype: str
    versions: dict[str, str]
    """Versions of Python and of the libraries that matter."""
    device: str
    """What it ran on."""
    date: str
    """Day on which it ran, as YYYY-MM-DD."""
    seconds: Seconds

    @model_validator(mode="before")
    @classmethod
    def _in_this_format(cls, content: Any) -> Any:
        """Bring a record of an older format to this one."""
        if not isinstance(content, dict):
            return content
        written = content.get("format", 1)
        if not isinstance(written, int) or isinstance(written, bool) or written < 1:
            raise ValueError(f"the format of a record must be a whole number of at least 1, got {written!r}")
        if written > FORMAT:
            raise ValueError(f"a record must be of format {FORMAT} or older, got {written}: install a newer hf_untangle")
        for number in range(written, FORMAT):
            content = MIGRATIONS[number](content)
        return content | {"format": FORMAT}


def _to_format_2(content: dict[str, Any]) -> dict[str, Any]:
    """The second format has the field's words: `ablation`, `quantize`, `neighbor`, `exact_memorization`, `license`."""
    words = {"fill": "ablation", "quantise": "quantize", "neighbour": "neighbor", "licence": "license"}

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {_metric(words.get(key, key)): renamed(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(renamed(item) for item in value)
        return value

    kept = (key for key in ("config", "metrics", "corpora") if isinstance(content.get(key), dict | list | tuple))
    changed = {key: renamed(content[key]) for key in kept}
    attacks = content.get("attacks")
    if isinstance(attacks, list | tuple):
        changed["attacks"] = tuple(_attack_in_format_2(one, words) for one in attacks)
    return content | changed


def _metric(name: Any) -> Any:
    """The name of a metric in American spelling."""
    return name.replace("memorisation", "memorization") if isinstance(name, str) else name


def _attack_in_format_2(attack: Any, words: dict[str, str]) -> Any:
    """A record of attacks whose names are those of the second format."""
    if not isinstance(attack, dict):
        return attack
    settings, outcomes = attack.get("settings"), attack.get("outcomes")
    changed: dict[str, Any] = {}
    if isinstance(attack.get("corpus"), dict):
        changed["corpus"] = {words.get(key, key): value for key, value in attack["corpus"].items()}
    if isinstance(settings, dict) and isinstance(settings.get("attacks"), list):
        changed["settings"] = settings | {"attacks": [words.get(name, name) for name in settings["attacks"]]}
    if isinstance(outcomes, list):
        changed["outcomes"] = [
            one | {"attack": words.get(str(one.get("attack")), one.get("attack"))} if isinstance(one, dict) else one
            for one in outcomes
        ]
    return attack | changed


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _to_format_2}
"""What brings a record of each older format to the next one."""
