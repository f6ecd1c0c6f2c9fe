"""A mask: which neurons of a model stay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Bool
from rich.table import Table
from torch import Tensor

from hf_untangle.architecture.neurons import KINDS, Kind, NeuronGroup
from hf_untangle.arguments import checked_calls
from hf_untangle.display import notebook_html, rows_table, short_repr
from hf_untangle.errors import MaskError
from hf_untangle.files.names import public_name
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.folders import MARKER, temporary_folder, whole_folder
from hf_untangle.hub.cards import license_of
from hf_untangle.hub.download import PullOptions, find_file
from hf_untangle.hub.upload import PushOptions, push_folder
from hf_untangle.masks.ablation import Ablation
from hf_untangle.masks.adapter import WEIGHTS, read_adapter, write_adapter
from hf_untangle.masks.card import mask_card
from hf_untangle.masks.mask_record import MaskRecord, check_parts

FORMAT = "hf_untangle.mask/1"
FILE = "mask.safetensors"
"""The file name of a mask in every folder that has one."""


@checked_calls
@dataclass(frozen=True, eq=False)
class NeuronMask(Mapping[str, Tensor]):
    """Which neurons stay (True), by the name of their group's output projection."""

    kept: dict[str, Bool[Tensor, " neuron"]]
    """One vector per group, on the CPU."""
    kinds: dict[str, Kind]
    """Whether each group is an FFN or attention."""
    model: str
    """The name or path of the model that the mask was made for."""
    ablation: Ablation = "zero"
    """What removed neurons read in the run that the mask comes from; its numbers hold for nothing else."""
    revision: str | None = None
    """The commit of the model on the Hub; None when it came from elsewhere."""
    __repr__ = short_repr
    _repr_html_ = notebook_html

    def __post_init__(self) -> None:
        """Refuse what is no mask."""
        check_parts(self.kept, self.kinds, self.ablation)

    @classmethod
    def keep_all(
        cls, groups: tuple[NeuronGroup, ...], model: str, ablation: Ablation = "zero", revision: str | None = None
    ) -> "NeuronMask":
        """Make the mask that removes nothing.

        Args:
            groups: The neuron groups of the model.
            model: The model's name or path.
            ablation: What neurons are going to read once they are removed.
            revision: The model's commit on the Hub, if it has one.

        Returns:
            The mask.
        """
        kept = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
        return cls(kept, {group.name: group.kind for group in groups}, model, ablation, revision)

    def with_kept(self, kept: dict[str, Bool[Tensor, " neuron"]]) -> "NeuronMask":
        """The same model's mask with other vectors.

        Args:
            kept: One vector per group.

        Returns:
            A new mask.
        """
        return replace(self, kept=kept)

    def __getitem__(self, group: str) -> Bool[Tensor, " neuron"]:
        """The vector of one group."""
        return self.kept[group]

    def __iter__(self) -> Iterator[str]:
        """The names of the groups, in the order in which they run."""
        return iter(self.kept)

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.kept)

    def __eq__(self, other: object) -> bool:
        """Tell whether two masks keep exactly the same neurons."""
        if not isinstance(other, NeuronMask) or self.kept.keys() != other.kept.keys():
            return False
        return all(torch.equal(kept, other[name]) for name, kept in self.items())

    def __and__(self, other: "NeuronMask") -> "NeuronMask":
        """Keep what both keep: everything that either removes is gone."""
        self._check_same_model(other)
        return self.with_kept({name: kept & other[name] for name, kept in self.items()})

    def __or__(self, other: "NeuronMask") -> "NeuronMask":
        """Keep what either keeps: only what both remove is gone."""
        self._check_same_model(other)
        return self.with_kept({name: kept | other[name] for name, kept in self.items()})

    def __sub__(self, other: "NeuronMask") -> "NeuronMask":
        """Take back what another mask removes: only what this one alone removes is gone."""
        self._check_same_model(other)
        return self.with_kept({name: kept | ~other[name] for name, kept in self.items()})

    def removed(self, kind: Kind | None = None) -> int:
        """Count the removed neurons.

        Args:
            kind: Count this kind alone; both when None.

        Returns:
            The number of neurons that are gone.
        """
        return sum(int((~kept).sum()) for name, kept in self.items() if kind in (None, self.kinds[name]))

    def neurons(self, kind: Kind | None = None) -> int:
        """Count all neurons, kept or removed.

        Args:
            kind: Count this kind alone; both when None.

        Returns:
            The number of neurons.
        """
        return sum(len(kept) for name, kept in self.items() if kind in (None, self.kinds[name]))

    def describe(self) -> str:
        """Say in one line how much is removed, by kind."""
        parts = [
            f"{self.removed(kind):,} of {self.neurons(kind):,} {kind} neurons ({self.removed(kind) / self.neurons(kind):.1%})"
            for kind in KINDS
            if self.neurons(kind)
        ]
        return f"removes {' and '.join(parts)} of {self.model}"

    def table(self) -> Table:
        """Lay out how much of every group is removed."""
        gone = {name: int((~kept).sum()) for name, kept in self.items()}
        rows = (
            (name, self.kinds[name], f"{len(kept):,}", f"{gone[name]:,}", f"{gone[name] / len(kept):.1%}")
            for name, kept in self.items()
        )
        return rows_table(("group", "kind", "neurons", "removed", "share"), rows, names=2)

    def check_fits(self, groups: tuple[NeuronGroup, ...], model: str, revision: str | None = None) -> None:
        """Refuse a model that the mask was not made for.

        Args:
            groups: The neuron groups of the model.
            model: The model's name.
            revision: Its commit on the Hub, if it has one.

        Raises:
            MaskError: The model has other groups, groups of other sizes, or is another revision of the same model.
        """
        self.check_revision(model, revision)
        sizes = {group.name: group.size for group in groups}
        for name, kept in self.items():
            if name not in sizes:
                raise MaskError(
                    f"The mask was made for `{self.model}` and has a group `{name}`, but `{model}` has no such projection. "
                    "Use the mask with its own model."
                )
            if len(kept) != sizes[name]:
                raise MaskError(
                    f"The mask has {len(kept)} neurons for `{name}` of `{self.model}`, but in `{model}` it has {sizes[name]}. "
                    "Was it made for another size of the model?"
                )

    def check_constants(self, constants: Mapping[str, Tensor] | None) -> None:
        """Refuse to read a mask as one of zeros that was found while removed neurons read something else.

        Args:
            constants: What removed neurons are to read, by group; None where nothing was said.

        Raises:
            MaskError: The mask was found with another ablation than zero, and nothing was said.
        """
        if constants is None and self.ablation != "zero" and not all(kept.all() for kept in self.kept.values()):
            raise MaskError(
                f"The mask was found with ablation={self.ablation!r}, so `constants=` must say what its removed neurons read, "
                "got none. Pass `constants=untangle.masks.mean_ablation(statistics)`, or `constants={}` to read zeros all the "
                "same, which is not what its numbers are of."
            )

    def check_revision(self, model: str, revision: str | None) -> None:
        """Refuse another revision of the model that the mask was made for, whose neurons may mean something else.

        Args:
            model: The model's name.
            revision: Its commit on the Hub, if it has one.

        Raises:
            MaskError: The name is the same, and both commits are known and differ.
        """
        if model == self.model and None not in (revision, self.revision) and revision != self.revision:
            raise MaskError(
                f"The mask was made for revision {self.revision} of `{model}`, but this is revision {revision}. Load that one "
                "(`revision=`), or make a mask for this one."
            )

    def save(self, file: str | Path) -> None:
        """Write one safetensors file.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        record = {"model": public_name(self.model), "revision": self.revision, "kinds": self.kinds, "ablation": self.ablation}
        tensors = {name: kept.to(torch.uint8) for name, kept in self.items()}
        write_tensors(file, tensors, kind=FORMAT, record=record)

    @classmethod
    def load(cls, file: str | Path) -> "NeuronMask":
        """Read what `save` wrote.

        Args:
            file: A safetensors file.

        Returns:
            The mask, its groups in the order in which they run.

        Raises:
            MaskError: The file holds no mask.
        """
        content = read_tensors(file, kind=FORMAT, what="a mask", error=MaskError, record=MaskRecord)
        record = content.record
        # The file's own order is by name; the record keeps the order in which the groups run.
        kept = {name: content.flags(name, (None,)) for name in record.kinds}
        content.check_names(kept)
        return cls(kept, record.kinds, record.model, record.ablation, record.revision)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Unpack[PullOptions]) -> "NeuronMask":
        """Read the mask of a pushed or saved result, mask or adapter.

        Args:
            source: `user/name` on the Hub, or a folder.
            **options: `revision`, `token`, `cache_dir` and `local_files_only`, as in `PullOptions`.

        Returns:
            The mask.

        Raises:
            HubError: The Hub has no such mask, or cannot be asked.
            MaskError: The folder has none.
        """
        return cls.load(find_file(source, FILE, **options))

    def to_adapter(self, folder: str | Path) -> Path:
        """Write a stock peft (IA)3 adapter, with which the base model does what the masked model does.

        `PeftModel.from_pretrained(base, folder)` and `base.load_adapter(folder)` take it, without this package. An adapter
        hides the neurons and can be switched off; `remove_` removes them.

        Args:
            folder: Where to write. A folder that this package wrote is replaced; any other that is not empty is refused.

        Returns:
            The folder.

        Raises:
            MaskError: The mask removes neurons of experts in one tensor, or comes from a run that held removed neurons at
                another value than zero: an adapter scales what a projection reads, and cannot shift it.
            OutputError: The folder is not ours to replace, or cannot be written.
        """
        with whole_folder(folder) as draft:
            self._write_adapter(draft, Path(folder).name)
        return Path(folder)

    @classmethod
    def from_adapter(cls, source: str | Path, **options: Unpack[PullOptions]) -> "NeuronMask":
        """Read a mask back from the adapter that `to_adapter` wrote.

        Args:
            source: A folder, or `user/name` on the Hub.
            **options: As in `PullOptions`.

        Returns:
            The mask.

        Raises:
            HubError: The Hub has no such adapter, or cannot be asked.
            MaskError: It is no adapter of a mask.
        """
        files = [find_file(source, name, **options) for name in (MARKER, WEIGHTS)]
        return cls(*read_adapter(files[0].parent))

    def push_to_hub(self, repo_id: str, **options: Unpack[PushOptions]) -> str:
        """Push the mask as an adapter, with a card; `from_pretrained` reads it back, and so does peft.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            **options: `private`, `token`, `revision`, `commit_message` and `create_pr`, as in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with temporary_folder() as folder:
            self._write_adapter(Path(folder), repo_id, license_of(self.model, token=options.get("token")))
            return push_folder(folder, repo_id, **options)

    def _write_adapter(self, folder: Path, source: str, license: str | None = None) -> None:
        """Write the adapter, the mask itself and the card; `source` is where a reader of the card finds them."""
        write_adapter(folder, self.kept, self.kinds, self.model, self.ablation)
        self.save(folder / FILE)
        mask_card(self.kept, self.kinds, self.model, source, license).save(folder / "README.md")

    def _check_same_model(self, other: "NeuronMask") -> None:
        """Refuse to combine masks of different models, or of runs with different ablations."""
        sizes = {name: len(kept) for name, kept in self.items()}
        if sizes != {name: len(kept) for name, kept in other.items()}:
            raise MaskError(
                f"Only masks of the same model can be combined, but these were made for `{self.model}` and `{other.model}`, "
                "whose neuron groups differ."
            )
        if self.ablation != other.ablation:
            raise MaskError(
                f"Only masks whose removed neurons read the same can be combined, but one has "
                f"ablation={self.ablation!r} and the other ablation={other.ablation!r}. Run one of them again with the "
                "ablation of the other."
            )
