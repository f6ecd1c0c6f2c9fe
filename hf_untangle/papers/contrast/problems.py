"""k-contrast problems: k items, one of which is meant."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Dataset

from hf_untangle.errors import CorpusError
from hf_untangle.papers.contrast.encoders import Items


@dataclass(frozen=True, eq=False)
class Problems:
    """Problems over a set of items that are known by number."""

    choices: Int[Tensor, "problem choice"]
    """Items to choose among. The same item may be there twice, as each place has a stream of its own."""
    labels: Int[Tensor, " problem"]
    """Which place holds the item that is meant."""

    @property
    def answers(self) -> Int[Tensor, " problem"]:
        """The items that are meant."""
        return self.choices.gather(1, self.labels[:, None]).squeeze(1)


def draw_problems(items: int, choices: int, count: int, seed: int) -> Problems:
    """Zip k independently shuffled streams of a set of items, and mean one item of each tuple at random.

    Args:
        items: How many items there are.
        choices: k, how many are in a problem.
        count: How many problems.
        seed: For the draw.

    Returns:
        The problems. A stream goes through all items before it comes to any of them again.

    Raises:
        CorpusError: There are fewer items than choices.
    """
    if items < choices:
        raise CorpusError(f"A problem of {choices} choices needs as many items, but the set has {items}. Pass a larger set.")
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // items)
    streams = [torch.cat([torch.randperm(items, generator=generator) for _ in range(rounds)])[:count] for _ in range(choices)]
    return Problems(torch.stack(streams, 1), torch.randint(choices, (count,), generator=generator))


class ProblemDataset(Dataset[dict[str, Tensor]]):
    """Problems with their items, as `Trainer` reads them."""

    def __init__(self, items: Items, problems: Problems) -> None:
        """Keep items and problems.

        Args:
            items: All items.
            problems: Problems over them.
        """
        self.items, self.problems = items, problems

    def __len__(self) -> int:
        """The number of problems."""
        return len(self.problems.labels)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """One problem as inputs of a `ContrastModel`."""
        problem, label = self.items[self.problems.choices[number]], self.problems.labels[number]
        return {"answer": problem[label], "problem": problem, "labels": label}
