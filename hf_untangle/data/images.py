"""Images of some classes of a data set, and batches of them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from datasets import Dataset, DatasetDict
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.data.corpora import Part
from hf_untangle.data.digits import digits
from hf_untangle.data.tokens import Task, row_at
from hf_untangle.display import fields_repr, notebook_html, short_repr
from hf_untangle.distributed import place
from hf_untangle.errors import ConfigError, CorpusError
from hf_untangle.hub.reachable import cache_alone_without_hub
from hf_untangle.progress import Bar, WorkKind, track

PARTS: tuple[Part, ...] = ("train", "validation", "test")
SHARES = (0.6, 0.8)
"""Where the rows of a data set without splits are cut into the three parts."""

Images = Float[Tensor, "image channel y x"]
Processor = Callable[[list[Any]], Images]
"""Makes the inputs of a model of images as a data set has them."""


@checked_calls
@dataclass(frozen=True)
class ImageClasses:
    """Some classes of a data set of images, and where they come from."""

    name: str
    origin: str
    source: str
    """Where the images come from, as a model card prints it."""
    license: str
    classes: tuple[int, ...]
    """The labels that belong to it."""
    all_classes: int
    """How many classes the data set has."""
    read: Callable[[Part], tuple[list[Any], list[int]]]
    """Reads all images and labels of a part, of every class."""
    __repr__ = fields_repr

    def others(self) -> "ImageClasses":
        """All other classes of the same data set."""
        rest = tuple(label for label in range(self.all_classes) if label not in self.classes)
        return replace(self, classes=rest, name=f"{self.name.partition(':')[0]}:rest")


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


@checked_calls
@dataclass(frozen=True)
class ImageBlocks:
    """Images of one part, ready for a classifier: a sequence of them. What is counted are images, each with all its patches."""

    pixel_values: Images
    classes: Int[Tensor, " image"]
    """The label of each image."""
    corpus: ImageClasses
    part: Part
    task: ClassVar[Task] = "class"
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def __len__(self) -> int:
        """The number of images."""
        return len(self.classes)

    def __getitem__(self, index: int | slice) -> "ImageBlocks":
        """One image, or some in a row."""
        return self.rows(index if isinstance(index, slice) else row_at(index, len(self)))

    def __iter__(self) -> Iterator["ImageBlocks"]:
        """The images one by one."""
        return (self[number] for number in range(len(self)))

    def describe(self) -> str:
        """Say in one line how many images these are, and of what."""
        shape = " x ".join(map(str, self.pixel_values.shape[1:]))
        return f"{len(self):,} images of {shape} numbers of {self.corpus.name} ({self.part} part)"

    @property
    def tokens(self) -> int:
        """How many images there are."""
        return len(self.classes)

    @property
    def width(self) -> int:
        """One: an image stands for itself."""
        return 1

    @property
    def counted(self) -> Bool[Tensor, " image"]:
        """Every image counts."""
        return torch.ones_like(self.classes, dtype=torch.bool)

    def influences(self) -> Bool[Tensor, " image"]:
        """The images that a gradient of the loss is summed over: all of them."""
        return self.counted

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell these images and labels from any others."""
        digest = hashlib.sha256(repr(tuple(self.pixel_values.shape)).encode())
        for tensor in (self.pixel_values, self.classes):
            digest.update(tensor.double().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def rows(self, rows: slice | Int[Tensor, " row"]) -> "ImageBlocks":
        """Some of the images."""
        return replace(self, pixel_values=self.pixel_values[rows], classes=self.classes[rows])

    def mine(self) -> "ImageBlocks":
        """The images that this process reads."""
        number, count = place()
        return self.rows(slice(number, None, count))

    def batches(self, batch_size: int) -> Iterator["ImageBlocks"]:
        """Consecutive images, so many a batch."""
        for start in range(0, self.tokens, batch_size):
            yield self.rows(slice(start, start + batch_size))

    def first(self, images: int) -> "ImageBlocks":
        """The first few images."""
        return self.rows(slice(0, images))

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What a model is called with."""
        return {"pixel_values": self.pixel_values.to(device)}

    def labels(self) -> Int[Tensor, " image"]:
        """What the model's own loss is taken on."""
        return self.classes

    def queries(self) -> tuple[Bool[Tensor, " image"], Int[Tensor, " image"]]:
        """That every image is to be classified, and as what."""
        return self.counted, self.classes

    def bar(self, what: str, *, progress: bool, kind: WorkKind = "forward") -> AbstractContextManager[Bar]:
        """A progress bar that counts images."""
        return track(f"{what} {self.corpus.name}", self.tokens, unit="image", progress=progress, kind=kind)

    def record(self) -> dict[str, Any]:
        """Describe the images for a report, as JSON can hold it."""
        return {
            "corpus": self.corpus.name,
            "origin": self.corpus.origin,
            "source": self.corpus.source,
            "license": self.corpus.license,
            "part": self.part,
            "classes": list(self.corpus.classes),
            "images": self.tokens,
            "tokens": self.tokens,
            "fingerprint": self.fingerprint,
        }


def image_blocks(source: ImageClasses, processor: Processor, *, part: Part, images: int | None = None) -> ImageBlocks:
    """Read images of some classes from one part.

    Args:
        source: The classes.
        processor: Makes the model's inputs of them.
        part: The part to read.
        images: How many at most; all when None.

    Returns:
        The images, in the order of the data set.

    Raises:
        CorpusError: The part does not have these classes.
    """
    everything, labels = source.read(part)
    chosen = [row for row, label in enumerate(labels) if label in source.classes][:images]
    if not chosen:
        raise CorpusError(f"The {part} part of `{source.name}` must have images of its classes, but it has none.")
    return ImageBlocks(
        processor([everything[row] for row in chosen]), torch.tensor([labels[row] for row in chosen]), source, part
    )


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
    from datasets import load_dataset

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
