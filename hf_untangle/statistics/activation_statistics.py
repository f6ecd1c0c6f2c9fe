"""The statistics of one corpus: moments of every neuron group, with a record of where they come from."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from rich.table import Table
from torch import Tensor

from hf_untangle.arguments import checked_calls
from hf_untangle.display import notebook_html, rows_table, short_repr
from hf_untangle.errors import StatisticsError
from hf_untangle.files.names import public_name, public_text
from hf_untangle.files.tensors import read_tensors, write_tensors
from hf_untangle.folders import MARKER, temporary_folder
from hf_untangle.hub.download import PullOptions, find_file
from hf_untangle.hub.upload import PushOptions, push_folder
from hf_untangle.statistics.card import statistics_card
from hf_untangle.statistics.moments import Moments
from hf_untangle.statistics.moments_file import StatisticsRecord, fault_of, read_moments

FORMAT = "hf_untangle.statistics/1"
FILE = "statistics.safetensors"
"""The name of pushed statistics."""


@checked_calls
@dataclass(frozen=True, eq=False)
class ActivationStatistics(Mapping[str, Moments]):
    """Moments of every neuron group on one corpus, by the name of the group's output projection."""

    moments: dict[str, Moments]
    """The sums of each group."""
    model: str
    """The model's name or path."""
    revision: str | None
    """The Hub commit that the model was loaded from, where there is one."""
    dtype: str
    """The dtype in which the model ran."""
    corpora: tuple[dict[str, Any], ...]
    """What was read: a record for each corpus, with its source, part, fingerprint and number of tokens."""

    __repr__ = short_repr
    _repr_html_ = notebook_html

    def __post_init__(self) -> None:
        """Refuse sums that no activations have."""
        for group, moments in self.moments.items():
            if fault := "infinity or NaN" if not moments.is_finite() else fault_of(moments):
                raise StatisticsError(
                    f"Statistics must be sums over the tokens of activations, but those of `{group}` have {fault}. "
                    "`collect(model, corpus)` counts them."
                )

    def __getitem__(self, group: str) -> Moments:
        """The moments of one group."""
        return self.moments[group]

    def __iter__(self) -> Iterator[str]:
        """The names of the groups, in the order in which they run."""
        return iter(self.moments)

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.moments)

    @property
    def tokens(self) -> int:
        """The number of tokens that were counted."""
        return sum(record["tokens"] for record in self.corpora)

    def describe(self) -> str:
        """Say in one line of what these are the sums."""
        neurons = sum(len(moments.total) for moments in self.values())
        read = " and ".join(f"{one['tokens']:,} tokens of {one.get('corpus', 'a corpus')}" for one in self.corpora)
        return f"what {neurons:,} neurons in {len(self)} groups of {self.model} ({self.dtype}) do over {read or 'no tokens'}"

    def table(self) -> Table:
        """Lay out what the neurons of every group do on average."""
        headings = ("group", "neurons", "mean", "mean absolute", "standard deviation", "positive")
        return rows_table(headings, ((name, *_averages(moments)) for name, moments in self.items()))

    def __add__(self, other: "ActivationStatistics") -> "ActivationStatistics":
        """Merge the statistics of two sets of tokens of the same model.

        Args:
            other: Statistics of the same neuron groups.

        Returns:
            Statistics of both together.

        Raises:
            StatisticsError: They belong to different models.
        """
        if self.model != other.model or _sizes(self) != _sizes(other):
            raise StatisticsError(
                f"Only statistics of the same model can be merged, but these are of `{self.model}` and `{other.model}`. "
                "Collect both on one model."
            )
        moments = {name: mine + other[name] for name, mine in self.items()}
        return ActivationStatistics(moments, self.model, self.revision, self.dtype, self.corpora + other.corpora)

    def save(self, file: str | Path) -> None:
        """Write one safetensors file, with the record in its header.

        Args:
            file: Where to write.

        Raises:
            OutputError: The file cannot be written; what was there is untouched.
        """
        tensors = tensors_of(self)
        record = {
            "groups": list(self),
            "model": public_name(self.model),
            "revision": self.revision,
            "dtype": self.dtype,
            "corpora": [_shared(corpus) for corpus in self.corpora],
        }
        write_tensors(file, tensors, kind=FORMAT, record=record)

    @classmethod
    def load(cls, file: str | Path) -> "ActivationStatistics":
        """Read what `save` wrote.

        Args:
            file: A safetensors file.

        Returns:
            The statistics, their groups in the order in which they run.

        Raises:
            StatisticsError: The file was not written by this package.
        """
        content = read_tensors(file, kind=FORMAT, what="statistics", error=StatisticsError, record=StatisticsRecord)
        record = content.record
        # The file's own order is by name; the record keeps the order in which the groups run.
        moments = {group: read_moments(content, group) for group in record.groups}
        content.check_names(f"{group}/{field}" for group, sums in moments.items() for field in sums.tensors())
        corpora = tuple(corpus.model_dump(exclude_unset=True) for corpus in record.corpora)
        return cls(moments, record.model, record.revision, record.dtype, corpora)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, filename: str = FILE, **options: Unpack[PullOptions]
    ) -> "ActivationStatistics":
        """Read statistics that were pushed, or those of a pushed or saved result.

        Args:
            source: `user/name` on the Hub, or a folder.
            filename: The file; a result has `statistics-forget.safetensors` and `statistics-retain.safetensors`.
            **options: `revision`, `token`, `cache_dir` and `local_files_only`, as in `PullOptions`.

        Returns:
            The statistics.

        Raises:
            HubError: The Hub has no such statistics, or cannot be asked.
            StatisticsError: The folder has none.
        """
        return cls.load(find_file(source, filename, **options))

    def push_to_hub(self, repo_id: str, **options: Unpack[PushOptions]) -> str:
        """Push the statistics with a card that says of what they are; `from_pretrained` reads them back.

        Args:
            repo_id: `user/name` on the Hub; made when there is none.
            **options: `private`, `token`, `revision`, `commit_message` and `create_pr`, as in `PushOptions`.

        Returns:
            The address of the commit.

        Raises:
            HubError: The Hub refuses, or cannot be reached; the message says what to do.
        """
        with temporary_folder() as folder:
            self.save(folder / FILE)
            (folder / MARKER).write_text(json.dumps({"format": FORMAT}) + "\n")
            roots = any(moments.root is not None for moments in self.values())
            made = statistics_card(self.model, self.revision, self.dtype, self.corpora, roots=roots, source=repo_id)
            made.save(folder / "README.md")
            return push_folder(folder, repo_id, **options)


def tensors_of(moments: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Name the sums of all groups for a file.

    Args:
        moments: The sums of every group.

    Returns:
        Tensors by the names `<group>/<sum>`.
    """
    return {f"{group}/{field}": tensor for group, sums in moments.items() for field, tensor in sums.tensors().items()}


def _shared(corpus: dict[str, Any]) -> dict[str, Any]:
    """What was read, without the folders of this machine."""
    return {key: public_text(value) if isinstance(value, str) else value for key, value in corpus.items()}


def _averages(moments: Moments) -> tuple[str, ...]:
    """The number of neurons, and means over neurons and tokens, as text."""
    count = moments.count.clamp_min(1)
    means = [sums / count for sums in (moments.total, moments.absolute, moments.positive)]
    mean, absolute, positive = (float(one.mean()) for one in means)
    spread = float(moments.variance.sqrt().mean())
    return f"{len(moments.total):,}", f"{mean:.3g}", f"{absolute:.3g}", f"{spread:.3g}", f"{positive:.1%}"


def _sizes(statistics: ActivationStatistics) -> dict[str, int]:
    """The number of neurons of each group."""
    return {name: len(moments.total) for name, moments in statistics.items()}
