"""Facts on invented people, places and works, made from a seed: nothing that a model can have read before."""

import random
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hf_untangle.arguments import checked_arguments, checked_calls
from hf_untangle.data.facts.draws import Names, draw, shuffled
from hf_untangle.data.facts.relations import KINDS, VALUES, worded
from hf_untangle.display import fields_repr
from hf_untangle.errors import ConfigError

FactSplit = Literal["forget", "retain", "neighbors", "unseen"]
"""`forget`: to be unlearned. `retain`: to be kept, passed to unlearning. `neighbors`: to be kept and held out from unlearning;
each is of the same kind and role as an entity of `forget`. `unseen`: never trained on, for membership inference."""
SPLITS: tuple[FactSplit, ...] = get_args(FactSplit)
QUESTIONS = 5
"""Questions on an entity."""
WRONG = 5
"""Wrong answers to a question."""

Fact = dict[str, Any]
"""A row: `entity`, `kind`, `question`, `answer`, `paraphrased_question`, `paraphrased_answer`, `perturbed_answer` (five),
`cloze` and `value`, which ends the sentence that `cloze` begins. The names of columns are those of TOFU (arXiv:2401.06121)."""


@checked_calls
@dataclass(frozen=True)
class Facts:
    """A whole benchmark of invented facts."""

    seed: int
    """What it was made from: the same seed and sizes give the same facts."""
    forget: tuple[Fact, ...]
    retain: tuple[Fact, ...]
    neighbors: tuple[Fact, ...]
    unseen: tuple[Fact, ...]
    __repr__ = fields_repr

    @property
    def known(self) -> tuple[Fact, ...]:
        """What the original model is trained on: `forget`, `retain` and `neighbors`."""
        return self.forget + self.retain + self.neighbors

    @property
    def gold(self) -> tuple[Fact, ...]:
        """What the gold model is trained on: `retain` and `neighbors`, never `forget`."""
        return self.retain + self.neighbors


@dataclass(frozen=True)
class _Entity:
    """An invented person, place or work."""

    kind: str
    role: str
    """What it is, with `{name}` for the name."""
    name: str

    @property
    def subject(self) -> str:
        """It, with what it is."""
        return self.role.format(name=self.name)

    @property
    def called(self) -> str:
        """Its name alone; that of a work is its title."""
        return self.subject.partition(" ")[2].partition(" ")[2] if self.kind == "work" else self.name


@checked_arguments
def invented_facts(seed: int = 0, *, forget: int = 12, retain: int = 48, neighbors: int = 12, unseen: int = 12) -> Facts:
    """Invent people, places and works in equal numbers, and five questions on each.

    No two entities share a name, and the facts of an entity are drawn independently of all others, so that nothing about
    `forget` follows from the other splits.

    Args:
        seed: Where everything is drawn from; another number gives a benchmark that no model has seen.
        forget: Entities to be unlearned.
        retain: Entities that unlearning is told to keep.
        neighbors: Entities to be kept that unlearning is not told of, of the roles of those in `forget`.
        unseen: Entities that no model is trained on.

    Returns:
        The facts, by split.

    Raises:
        ConfigError: A split has no entity.
    """
    sizes: dict[FactSplit, int] = {"forget": forget, "retain": retain, "neighbors": neighbors, "unseen": unseen}
    if min(sizes.values()) < 1:
        raise ConfigError(f"Every split of facts needs at least one entity, got {sizes}.")
    rng = random.Random(seed)
    names = Names(rng)
    pools = _pools(names, rng)
    roles = _roles(max(sizes.values()), rng)
    made: dict[str, tuple[Fact, ...]] = {}
    for split, count in sizes.items():
        # Neighbors take the roles of `forget` in the same order; the roles of other splits begin elsewhere.
        start = 0 if split in ("forget", "neighbors") else forget
        entities = [_entity(*roles[(start + number) % len(roles)], names) for number in range(count)]
        made[split] = tuple(fact for entity in entities for fact in _facts(entity, pools, rng))
    return Facts(seed, **made)


def _pools(names: Names, rng: random.Random) -> dict[str, tuple[str, ...]]:
    """All values by kind; people, places and years are invented too."""
    return VALUES | {
        "person": tuple(names.person() for _ in range(24)),
        "place": tuple(names.place() for _ in range(24)),
        "year": tuple(map(str, shuffled(range(1702, 1898), rng)[:40])),
    }


def _roles(count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Kinds of entities in turn, each with a role."""
    orders = {kind: shuffled(KINDS[kind].roles, rng) for kind in KINDS}
    kinds = [kind for _ in range(-(-count // len(KINDS))) for kind in KINDS]
    return [(kind, orders[kind][number // len(KINDS) % len(orders[kind])]) for number, kind in enumerate(kinds)]


def _entity(kind: str, role: str, names: Names) -> _Entity:
    """Name an entity."""
    return _Entity(kind, role, names.person() if KINDS[kind].named == "person" else names.place())


def _facts(entity: _Entity, pools: dict[str, tuple[str, ...]], rng: random.Random) -> list[Fact]:
    """Five facts on an entity, no two of them with one value."""
    relations = shuffled(KINDS[entity.kind].relations, rng)[:QUESTIONS]
    found: list[Fact] = []
    for relation in relations:
        taken = {fact["value"] for fact in found}
        free = [value for value in pools[relation.values] if value not in taken]
        right = draw(free, rng)
        wrong = shuffled([value for value in free if value != right], rng)[:WRONG]
        about = {"entity": entity.called, "kind": entity.kind}
        found.append(about | worded(relation, right, wrong, subject=entity.subject, name=entity.called))
    return found
