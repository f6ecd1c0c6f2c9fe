"""Open some classes of a data set of images: one in memory, one of the Hub, or the handwritten digits."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from datasets import Dataset, DatasetDict, load_dataset

from hf_untangle.arguments import checked_arguments
from hf_untangle.data.corpora import Part
from hf_untangle.data.digits import digits
from hf_untangle.data.images import ImageClasses
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.hub.reachable import cache_alone_without_hub

PARTS: tuple[Part, ...] = ("train", "validation", "test")
SHARES = (0.6, 0.8)
"""Where the rows of a data set without splits are cut into the three parts."""


@checked_arguments
def image_classes(source: str | DatasetDict | Dataset | ImageClasses, classes: Sequence[int] | None = None) -> ImageClasses:
    """Open some classes of a data set of images.

    Args:
        source: `digits:0,1` for classes of scikit-learn's handwritten digits, which need no network; a data set, whose image
            and label columns are found by their features; `name:3,7` for one of the Hub.
        classes: The labels; those after the colon when None.

    Returns:
        The classes; images are read when they are asked for.

    Raises:
        ConfigError: No classes came, or some that the data set does not have.
        CorpusError: The data set has no images, or no labels.
    """
    if isinstance(source, ImageClasses):
        return source
    name, chosen = _split(source, classes)
    if name == "digits":
        origin, where, license, count, read = "embedded", "scikit-learn's handwritten digits", "BSD-3-Clause", 10, _read_digits
    else:
        data = source if not isinstance(source, str) else _load(name)
        origin, where, license = "dataset", name, "unknown"
        count, read = _reader(data)
    if not chosen or not set(chosen) <= set(range(count)):
        raise ConfigError(f"Classes of `{name}` must be some of 0 to {count - 1}, got {list(chosen)}, as in `{name}:0,1`.")
    listed = ",".join(map(str, chosen))
    return ImageClasses(f"{name}:{listed}", origin, where, license, tuple(chosen), count, read)


def _split(source: Any, classes: Sequence[int] | None) -> tuple[str, list[int]]:
    """The name of a data set, and the classes that are meant."""
    if not isinstance(source, str):
        return "data set", list(classes or ())
    name, _, listed = source.rpartition(":") if ":" in source else (source, "", "")
    try:
        return name, list(classes) if classes is not None else [int(label) for label in listed.split(",") if label]
    except ValueError as error:
        raise ConfigError(f"Classes must be numbers, as in `digits:0,1`, got `{source}`.") from error


def _read_digits(part: Part) -> tuple[list[Any], list[int]]:
    """The handwritten digits, as grey planes from 0 to 1."""
    images, labels = getattr(digits(), part).planes()
    return list(images), labels.tolist()


def _load(name: str) -> DatasetDict | Dataset:
    """A data set of the Hub, or of a folder."""
    try:
        with cache_alone_without_hub(name):
            return cast(DatasetDict, load_dataset(name))
    except Exception as error:  # A missing name, a lost connection and an unknown format each have their kind.
        reason = str(error).partition("\n")[0]
        raise CorpusError(
            f"`{name}` must be `digits`, a folder or a data set on the Hub, but it could not be read: {reason}"
        ) from error


def _reader(data: DatasetDict | Dataset) -> tuple[int, Callable[[Part], tuple[list[Any], list[int]]]]:
    """How many classes a data set has, and a function that reads one part of it."""
    some = next(iter(data.values())) if isinstance(data, DatasetDict) else data
    kinds = {name: type(feature).__name__ for name, feature in some.features.items()}
    image = next((name for name, kind in kinds.items() if kind == "Image"), None)
    label = next((name for name, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise CorpusError(f"A data set of images needs an Image and a ClassLabel column, but it has {kinds}.")

    def read(part: Part) -> tuple[list[Any], list[int]]:
        rows = _part(data, part)
        return list(rows[image]), list(rows[label])

    return some.features[label].num_classes, read


def _part(data: DatasetDict | Dataset, part: Part) -> Dataset:
    """One part: a split of that name, or a share of the shuffled rows where there is none."""
    if isinstance(data, DatasetDict) and part in data:
        return data[part]
    whole = data["train"] if isinstance(data, DatasetDict) else data
    rows = whole.shuffle(seed=0)
    cuts = [0, *(int(share * len(rows)) for share in SHARES), len(rows)]
    index = PARTS.index(part)
    return rows.select(range(cuts[index], cuts[index + 1]))
