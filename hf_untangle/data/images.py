"""Images of some classes of a data set, and batches of them."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.data.corpora import Part
from hf_untangle.data.tokens import Task, row_at
from hf_untangle.display import fields_repr, notebook_html, short_repr
from hf_untangle.distributed import place
from hf_untangle.errors import CorpusError
from hf_untangle.progress import Bar, WorkKind, track

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
